"""Rival models against numbers computed with the code that their authors released.

Parameters are filled by the authors' names, in float64 and small widths, so that the names are tested, too.
"""

import csv
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.command_line import load
from data.errors import UserError
from models import build_model, chg2cap, model_class
from models.authors.rival_names import NAMES, authors_name, our_value
from models.captioner import Captioner
from tests.conftest import CONFIGS

SMALL = {"width": 32, "heads": 4, "weights": "none", "trunk": "resnet50", "max_length": 8}
SETTINGS = {
    "rsiccformer": {"feedforward": 128},
    "mccformer_d": {"feedforward": 128},
    "mccformer_s": {"feedforward": 128},
    "chg2cap": {"width": 40, "attention_width": 48, "feedforward": 24},
    "psnet": {"feedforward": 128, "trunk": "vit_b_32", "last_layer": "layer4", "trained_from": "nothing"},
    "sen": {},
}
GOLDEN = {  # memory and logits, mean and deviation; logits[1, 5, :4]; cross-entropy
    "rsiccformer": (
        (0.010270, 1.004142),
        (-0.600716, 1.007649),
        (-0.128962, -0.226708, -0.605075, -0.940030),
        2.926966,
    ),
    "mccformer_d": (
        (0.035134, 1.029153),
        (-0.476827, 1.058920),
        (0.273829, 0.090993, -1.037818, -1.320631),
        3.050790,
    ),
    "mccformer_s": (
        (-0.025034, 0.995087),
        (-0.496860, 1.170915),
        (-0.046939, 0.248756, 0.244707, -1.097542),
        3.199648,
    ),
    "chg2cap": (
        (0.703122, 1.089031),
        (0.657399, 1.810636),
        (0.953496, -3.500326, 1.321046, 1.088669),
        4.240955,
    ),
    "psnet": (
        (0.041305, 1.252131),
        (-0.062704, 0.832918),
        (-0.151698, 0.128792, 1.014111, -0.167009),
        3.051898,
    ),
    "sen": (
        (0.295678, 2.091045),
        (-0.662429, 1.132096),
        (-0.139342, -1.331710, 0.379505, -2.072062),
        2.497036,
    ),
}
COUNTS = {  # millions of parameters in use: trunk, fusion, decoder; words of the vocabulary
    "rsiccformer": (27.535424, 20.237312, 17.755604, 468),
    "mccformer_d": (27.5, 6.8, 34.6, 468),
    "mccformer_s": (27.5, 6.8, 34.6, 468),
    "chg2cap": (42.5, 154.3, 69.2, 501),  # the last block is part of our fusion
    "psnet": (87.5, 65.0, 51.3, 468),
    "sen": (24.6, 10.6, 4.7, 468),
}
TOKENS = torch.tensor([[8, 1, 5, 4, 7, 2], [8, 4, 4, 6, 1, 10]])


def value(name: str, shape: Sequence[int]) -> Tensor:
    """The value of a parameter or statistic of the authors' code by its name."""
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if len(shape) > 1:
        x = x / np.sqrt(x.size / shape[0])
    elif name.endswith("running_var"):
        x = 1 + 0.1 * abs(x)
    else:
        x = 1 + 0.1 * x if name.endswith("weight") else 0.1 * x
    return torch.from_numpy(x)


@torch.no_grad()
def fill(module: nn.Module, names: tuple[tuple[str, str], ...]) -> None:
    for name, tensor in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            theirs = authors_name(name, names)
            shape = (16, tensor.shape[1]) if name in ("columns", "rows") else tensor.shape  # Chg2Cap's
            tensor.copy_(our_value(theirs, value(theirs, shape), tensor))


def small_model(name: str) -> Captioner:
    """The model in float64 and eval mode, filled."""
    settings = model_class(name).Settings(**{**SMALL, **SETTINGS[name]})
    model = build_model(settings, 11)
    if name == "chg2cap":  # whose width is the trunk's
        model.encoder.channels, model.fusion = 32, chg2cap.Fusion(settings, 32)
    model = model.double().eval()
    for part, names in zip((model.fusion, model.decoder), NAMES[name], strict=True):
        fill(part, names)
    return model


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


def memory_of(model: Captioner, swapped: bool = False) -> Tensor:
    if model.settings.name == "sen":
        pixels, maps = random(1, 2, 6, 256, 256)[..., ::32, ::32], random(2, 2, 32, 8, 8)
        return model.fusion(maps, pixels.roll(3, 1) if swapped else pixels)
    features = features_of(model)
    return model.fuse(features.flip(1) if swapped else features)


def features_of(model: Captioner) -> Tensor:
    side = model.settings.grid
    shape = (2, model.encoder.channels, side, side)
    return torch.stack([random(1, *shape), random(2, *shape)], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN)
def test_memory_and_logits_equal_the_authors_code(name):
    model = small_model(name)
    memory = memory_of(model)
    logits = model.decoder(TOKENS.unsqueeze(1), memory).squeeze(1)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    of_memory, of_logits, first, entropy = GOLDEN[name]
    actual = [memory.mean(), memory.std(correction=0), logits.mean(), logits.std(correction=0)]
    actual = torch.stack([*actual, *logits[1, 5, :4], loss])
    expected = torch.tensor([*of_memory, *of_logits, *first, entropy], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", GOLDEN)
def test_number_of_parameters(name):
    *expected, words = COUNTS[name]
    with torch.device("meta"):
        model = build_model(load(CONFIGS / "rivals" / f"{name}.yaml").model, words, pretrained=False)
    parts = (model.encoder, model.fusion, model.decoder)
    counts = [sum(parameter.numel() for parameter in part.parameters()) / 1e6 for part in parts]
    assert counts == pytest.approx(expected, abs=0.05)


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN)
def test_the_order_of_the_dates_matters(name):
    model = small_model(name)
    memory, swapped = memory_of(model), memory_of(model, swapped=True)
    assert not torch.allclose(memory, swapped, atol=0.01)
    exchanged = torch.cat(swapped.chunk(2, dim=-1)[::-1], dim=-1)
    # MCCFormers-D alone treats the dates alike: swapping them swaps the halves of its memory
    assert torch.allclose(memory, exchanged, atol=0.01) == (name == "mccformer_d")


@torch.no_grad()
def test_sen_keeps_the_pixels_that_its_convolution_of_stride_32_reads():
    settings = model_class("sen").Settings(**{**SMALL, "trunk": "resnet18", "last_layer": "layer4"})
    model = build_model(settings, 11).eval()
    views = torch.randint(0, 256, (1, 4, 3, 256, 256), generator=torch.Generator().manual_seed(0)).byte()
    images = model.normalised(views[:, :2]).flatten(1, 2)
    features = model.features(views)
    assert features.shape == (1, 1, 512 + 6, 8, 8)
    assert torch.equal(features[:, 0, -6:], images[..., ::32, ::32])
    torch.testing.assert_close(features[:, 0, :-6], model.encoder.trunk(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sen", "trunk": "timm:test_resnet", "trained_from": "conv1"}, "resnet18, .* got timm:test"),
        (
            {"name": "psnet", "decoder_layers": 2},
            "fusion_layers must .* equal model.decoder_layers: got 3 and 2",
        ),
        ({"name": "psnet", "fusion_layers": 1, "decoder_layers": 1}, "must be 2 or more .* got 1 and 1"),
        ({"name": "chg2cap", "attention_width": 20}, "attention_width must be a multiple .* got 20 and 8"),
        ({"name": "sen", "width": 24}, "model.width must be a multiple of 16 for sen: got 24"),
        ({"name": "rsiccformer", "width": 9}, "model.width must be even .* got 9 and 8"),
    ],
)
def test_settings_that_fit_no_model(settings, message):
    with pytest.raises(UserError, match=message):
        model_class(settings["name"]).Settings(**settings)


PARAMETERS = CONFIGS.parent.parent / "shared" / "rivals_parameters.tsv"


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters in use, by module and the authors' name."""
    title = name.replace("mccformer", "mccformers")
    with PARAMETERS.open() as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if row[0] == title and row[4] == "yes"]
    shapes = {f"{part} {parameter}": shape.split("x") for _, part, parameter, shape, _ in rows}
    unused = "fusion transformer_cross."  # statistics of modules that are never called
    return {key: tuple(map(int, shape)) for key, shape in shapes.items() if not key.startswith(unused)}


@pytest.mark.real
@pytest.mark.skipif(not PARAMETERS.is_file(), reason="the table of the released parameters is absent")
@pytest.mark.parametrize("name", GOLDEN)
def test_every_released_parameter_in_use_has_one_of_ours(name):
    with torch.device("meta"):
        model = build_model(load(CONFIGS / "rivals" / f"{name}.yaml").model, 7, pretrained=False)
    ours = {}
    for part, names in zip(("fusion", "decoder"), NAMES[name], strict=True):
        for parameter, tensor in model.get_submodule(part).state_dict().items():
            moved = name == "chg2cap" and parameter.startswith(("join.", "block."))
            if not parameter.endswith("num_batches_tracked"):
                ours[f"{'decoder' if moved else part} {authors_name(parameter, names)}"] = tensor
    shapes = released_shapes(name)
    assert ours.keys() == shapes.keys()
    for key, tensor in ours.items():
        value = torch.empty(shapes[key], device="meta")
        assert our_value(key.partition(" ")[2], value, tensor).shape == tensor.shape, key
