"""Names of the rival models' parameters in the code that their authors released."""

import re

DECODER = (  # our names and the authors'; # is the number of a layer
    ("embedding", "vocab_embedding"),
    ("layers.#.self_attention", "transformer.layers.#.self_attn"),
    ("layers.#.self_attention_norm", "transformer.layers.#.norm1"),
    ("layers.#.cross_attention.attention", "transformer.layers.#.multihead_attn"),
    ("layers.#.cross_attention.attention_norm", "transformer.layers.#.norm2"),
    ("layers.#.cross_attention.feedforward.0", "transformer.layers.#.linear1"),
    ("layers.#.cross_attention.feedforward.3", "transformer.layers.#.linear2"),
    ("layers.#.cross_attention.feedforward_norm", "transformer.layers.#.norm3"),
    ("output", "wdc"),
)


def _cross_attention(ours: str, theirs: str, attention: str) -> tuple[tuple[str, str], ...]:
    """The names in a `CrossAttention`, whose attention is called `attention` in the authors' code."""
    return (
        (f"{ours}.attention", f"{theirs}.{attention}"),
        (f"{ours}.attention_norm", f"{theirs}.norm1"),
        (f"{ours}.feedforward.0", f"{theirs}.linear1"),
        (f"{ours}.feedforward.3", f"{theirs}.linear2"),
        (f"{ours}.feedforward_norm", f"{theirs}.norm2"),
    )


def _with(names: tuple[tuple[str, str], ...], old: str, new: str) -> tuple[tuple[str, str], ...]:
    return tuple((ours, theirs.replace(old, new)) for ours, theirs in names)


TABLES = (("tokens.columns", "w_embedding.weight"), ("tokens.rows", "h_embedding.weight"))
SECOND_ATTENTION = _with(DECODER, "multihead_attn", "multihead_attn2")
D_FUSION = (
    *TABLES,
    ("tokens.project", "projection"),
    *_cross_attention("layers.#", "transformer.#", "attention"),
)
NAMES = {  # by model, of the fusion and the decoder
    "mccformer_d": (D_FUSION, DECODER),
    "mccformer_s": (
        (
            *TABLES,
            ("tokens.project", "input_proj"),
            ("dates", "idx_embedding.weight"),
            *_cross_attention("layers.#", "transformer.layers.#", "self_attn"),
        ),
        DECODER,
    ),
    "rsiccformer": (
        (*D_FUSION, ("blocks.#.conv", "resblock.#.left"), ("blocks.#.norm", "LN.#")),
        SECOND_ATTENTION,
    ),
}


def authors_name(name: str, names: tuple[tuple[str, str], ...]) -> str:
    """The authors' name of our parameter, by a table of NAMES."""
    for ours, theirs in names:
        pattern = re.escape(ours).replace(r"\#", r"(\d+)") + r"(\..+|$)"
        if match := re.fullmatch(pattern, name):
            *layer, rest = match.groups()
            rest = rest.replace(".in_proj.", ".in_proj_")  # torch's attention has no module for it
            return theirs.replace("#", "".join(layer)) + rest
    raise AssertionError(name)
