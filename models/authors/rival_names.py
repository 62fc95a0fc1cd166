"""Names of the rival models' parameters in the code that their authors released."""

import re

from torch import Tensor

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


def _self_attention(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    """The names in a `SelfAttentionBlock` of Chg2Cap."""
    return (
        (f"{ours}.queries", f"{theirs}.att.to_q"),
        (f"{ours}.keys", f"{theirs}.att.to_k"),
        (f"{ours}.output", f"{theirs}.att.to_out.0"),
        (f"{ours}.attention_norm", f"{theirs}.norm1"),
        (f"{ours}.feedforward.0", f"{theirs}.feedforward.net.0"),
        (f"{ours}.feedforward.3", f"{theirs}.feedforward.net.3"),
        (f"{ours}.feedforward_norm", f"{theirs}.norm2"),
    )


def _with(names: tuple[tuple[str, str], ...], old: str, new: str) -> tuple[tuple[str, str], ...]:
    return tuple((ours, theirs.replace(old, new)) for ours, theirs in names)


TABLE_NAMES = ("w_embedding.weight", "h_embedding.weight")
TABLES = tuple(zip(("tokens.columns", "tokens.rows"), TABLE_NAMES, strict=True))
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
    "chg2cap": (
        (
            ("columns", "h_embedding.weight"),  # the authors' names of the tables are swapped
            ("rows", "w_embedding.weight"),
            *_self_attention("each_date.#", "selftrans.#.0"),
            *_self_attention("both_dates.#", "selftrans.#.1"),
            ("join", "Conv1"),
            ("block.conv", "LN.left"),
        ),
        DECODER,
    ),
    "psnet": (
        (
            *TABLES,
            ("tokens.project", "projection2"),
            *_cross_attention("layers.#", "transformer_concatlength.#", "self_attn"),
            ("reduce.#", "linear_list.#"),
            ("reinforce.#.norm", "Scale_aware_list.#.norm1"),
            ("reinforce.#.attention", "Scale_aware_list.#.attention_1"),
            ("reinforce.#.attended_norm", "Scale_aware_list.#.norm2"),
            ("reinforce.#.feedforward.0", "Scale_aware_list.#.linear1"),
            ("reinforce.#.feedforward.3", "Scale_aware_list.#.linear2"),
        ),
        _with(SECOND_ATTENTION, "transformer.layers", "transformer"),
    ),
    "sen": (
        (
            ("embed", "embed_img"),
            ("gate_before", "channel_attn_bef"),
            ("gate_after", "channel_attn_aft"),
            *_cross_attention("layers.#.before", "blocks.#.cross_attn_bef", "attn"),
            *_cross_attention("layers.#.after", "blocks.#.cross_attn_aft", "attn"),
            ("layers.#.attention", "blocks.#.attn"),
            ("layers.#.norm", "blocks.#.norm"),
        ),
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


def our_value(name: str, value: Tensor, expected: Tensor) -> Tensor:
    """A parameter of the authors' code, by its name there, in the form of our parameter `expected`."""
    if name == "LN.left.3.weight" and value.dim() == 4:  # Chg2Cap's block reads transposed grids
        value = value.transpose(2, 3)
    if name in TABLE_NAMES and value.dim() == 2:  # Chg2Cap's tables have rows that no grid reads
        value = value[: len(expected)]
    if value.dim() == 4 and expected.dim() == 2 and value.shape[2:] == (1, 1):  # SEN's are linear layers here
        value = value.flatten(1)
    return value
