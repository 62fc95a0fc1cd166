"""Converts a checkpoint of the authors: settings from its shapes, and its tensors to our state dict."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from data.errors import UserError
from models import build_model
from models.authors.pickle_reader import AuthorsCheckpoint
from models.decoder import sinusoids
from models.encoder import Encoder
from models.mmodalcc import Settings
from models.state_dict import first_misfit
from models.trunks import RESNETS, TrunkSettings

NAMES = (  # our and the authors' names; # is the number of a layer. Shared modules have their first name
    ("encoder_rgb.trunk.conv1", "encoder_image.net.0"),
    ("encoder_rgb.trunk.bn1", "encoder_image.net.1"),
    ("encoder_rgb.trunk.layer1", "encoder_image.net.4"),
    ("encoder_rgb.trunk.layer2", "encoder_image.net.5"),
    ("encoder_rgb.trunk.layer3", "encoder_image.net.6"),
    ("encoder_sem.trunk.conv1", "encoder_image2.net.0"),
    ("encoder_sem.trunk.bn1", "encoder_image2.net.1"),
    ("encoder_sem.trunk.layer1", "encoder_image2.net.4"),
    ("encoder_sem.trunk.layer2", "encoder_image2.net.5"),
    ("encoder_sem.trunk.layer3", "encoder_image2.net.6"),
    ("fusion.project_rgb", "encoder_feat.projection"),
    ("fusion.project_sem", "encoder_feat.projection2"),
    ("fusion.columns", "encoder_feat.w_embedding.weight"),
    ("fusion.rows", "encoder_feat.h_embedding.weight"),
    ("fusion.enhance.#.rgb_from_sem.attention", "encoder_feat.transformer.#.attention2"),
    ("fusion.enhance.#.rgb_from_sem.attention_norm", "encoder_feat.transformer.#.norm3"),
    ("fusion.enhance.#.rgb_from_sem.feedforward.0", "encoder_feat.transformer.#.linear3"),
    ("fusion.enhance.#.rgb_from_sem.feedforward.3", "encoder_feat.transformer.#.linear4"),
    ("fusion.enhance.#.rgb_from_sem.feedforward_norm", "encoder_feat.transformer.#.norm4"),
    ("fusion.blocks_rgb.#.conv", "encoder_feat.resblock.#.left"),
    ("fusion.blocks_rgb.#.norm", "encoder_feat.LN.#"),
    ("decoder.embedding", "decoder.vocab_embedding"),
    ("decoder.self_attention", "decoder.transformer.layers.0.self_attn"),
    ("decoder.self_attention_norm", "decoder.transformer.layers.0.norm1"),
    ("decoder.mgca.attend_rgb", "decoder.transformer.layers.0.multihead_attn"),
    ("decoder.mgca.gate_rgb", "decoder.transformer.layers.0.gate.0"),
    ("decoder.mgca.gate_sem", "decoder.transformer.layers.0.gate2.0"),
    ("decoder.mgca.gate_word", "decoder.transformer.layers.0.gate3.0"),
    ("decoder.mgca.norm", "decoder.transformer.layers.0.norm3"),
    ("decoder.feedforward.0", "decoder.transformer.layers.0.linear1"),
    ("decoder.feedforward.3", "decoder.transformer.layers.0.linear2"),
    ("decoder.feedforward_norm", "decoder.transformer.layers.0.norm4"),
    ("decoder.output", "decoder.wdc"),
)
RULES = [
    (re.compile(re.escape(ours).replace(r"\#", r"(\d+)") + r"(\..+|$)"), theirs) for ours, theirs in NAMES
]

POSITIONS = "decoder.position_encoding.pe"
UNUSED = re.compile(  # parameters that the forward pass of the authors' code does not use
    r"(encoder_feat\.transformer\.\d+\.(attention|linear1|linear2|norm1|norm2)|encoder_feat\.embedding_1D"
    r"|decoder\.transformer\.layers\.0\.(multihead_attn2|norm2)|decoder\.position_encoding\.embedding_1D)\..+"
)


def authors_name(name: str) -> str:
    """The authors' name of our parameter."""
    for ours, theirs in RULES:
        if match := ours.match(name):
            *layer, rest = match.groups()
            rest = rest.replace(".in_proj.", ".in_proj_")  # torch's attention has no module for it
            return theirs.replace("#", "".join(layer)) + rest
    raise AssertionError(name)


def model_settings(authors: AuthorsCheckpoint, base: Settings) -> Settings:
    """`base` with the settings that a checkpoint's names, shapes and attention heads determine."""
    layer = re.compile(r"encoder_feat\.transformer\.\d+\.linear3\.weight")
    return replace(
        base,
        trunk=_trunk(authors),
        grid=authors.size("encoder_feat.w_embedding.weight", 0),
        width=authors.size("encoder_feat.projection.weight", 0),
        heads=_heads(authors),
        feedforward=authors.size("encoder_feat.transformer.0.linear3.weight", 0),
        fusion_layers=sum(bool(layer.fullmatch(name)) for name in authors.tensors),
    )


def _trunk(authors: AuthorsCheckpoint) -> str:
    """The ResNet whose parameter names differ least from those of the file."""
    given = {name for name in authors.tensors if name.startswith("encoder_image.")}
    differing = {}
    for trunk in RESNETS:
        settings = TrunkSettings(trunk=trunk, trained_from="conv1", trunk_batchnorm="live")
        with torch.device("meta"):  # only the names are needed
            encoder = Encoder(settings, grid=1)
        names = {authors_name(f"encoder_rgb.{name}") for name in encoder.state_dict()}
        differing[trunk] = len(names ^ given)
    return min(differing, key=differing.__getitem__)


def _heads(authors: AuthorsCheckpoint) -> int:
    """The number of heads, which must be the same for all attention modules in use."""
    if not authors.heads:
        raise UserError("the checkpoint lacks encoder_feat.transformer.0.attention2")
    first = next(iter(authors.heads.values()))
    for name, heads in authors.heads.items():
        if heads != first or type(heads) is not int or heads < 1:
            raise UserError(f"every attention has the same number of heads: {name} has {heads}")
    return first


def our_state(authors: AuthorsCheckpoint, config: Settings, vocabulary_size: int) -> dict[str, Tensor]:
    """The tensors of a checkpoint as the state dict of the model of `config`.

    UserError names a parameter that is missing, unknown or of another shape.
    """
    rows = authors.size("decoder.vocab_embedding.weight", 0)
    if rows != vocabulary_size:
        raise UserError(
            f"decoder.vocab_embedding.weight is for {rows} words, the word map has {vocabulary_size}: "
            "give the word map that the checkpoint was trained with"
        )
    _check_positions(authors, authors.size("decoder.vocab_embedding.weight", 1))
    with torch.device("meta"):  # only the shapes are needed: the values come from the file
        model = build_model(config, vocabulary_size, pretrained=False)
    stored = model.state_dict()
    expected, ours = {}, {}
    for name, _ in (*model.named_parameters(), *model.named_buffers()):  # shared tensors only once
        if name in stored:
            ours[authors_name(name)] = name
            expected[authors_name(name)] = stored[name]
    given = {n: t for n, t in authors.tensors.items() if n != POSITIONS and not UNUSED.fullmatch(n)}
    if reason := first_misfit(expected, given):
        raise UserError(
            f"the checkpoint {reason}: it is not a model of the authors' code with a {config.trunk} trunk"
        )
    model.load_state_dict({ours[name]: given[name] for name in expected}, strict=False, assign=True)
    return model.state_dict()


def _check_positions(authors: AuthorsCheckpoint, width: int) -> None:
    """UserError if the stored position encoding is not sinusoidal, up to float32 rounding of the angle."""
    rows = authors.size(POSITIONS, 0)
    positions = authors.tensors[POSITIONS]
    if positions.shape != (rows, 1, width) or not positions.is_floating_point():
        raise UserError(f"the checkpoint has {POSITIONS} as {tuple(positions.shape)}, not (n, 1, {width})")
    tolerance = 1e-6 * (1 + torch.arange(rows)).unsqueeze(1)
    if not ((positions[:, 0] - sinusoids(rows, width)).abs() <= tolerance).all():
        raise UserError(f"{POSITIONS} of the checkpoint are not the sinusoids of the authors' code")
