"""Rival models against numbers computed with the code that their authors released.

Parameters are filled by the authors' names, in float64 and small widths, so that the names are tested, too.
"""

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import build_model, model_class
from models.authors.rival_names import NAMES, authors_name
from models.captioner import Captioner

SMALL = {"width": 32, "heads": 4, "weights": "none", "trunk": "resnet50", "max_length": 8}
SETTINGS = {
    "rsiccformer": {"feedforward": 128},
    "mccformer_d": {"feedforward": 128},
    "mccformer_s": {"feedforward": 128},
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
}
COUNTS = {  # millions of parameters in use: trunk, fusion, decoder; words of the vocabulary
    "rsiccformer": (27.535424, 20.237312, 17.755604, 468),
    "mccformer_d": (27.5, 6.8, 34.6, 468),
    "mccformer_s": (27.5, 6.8, 34.6, 468),
}
TOKENS = torch.tensor([[8, 1, 5, 4, 7, 2], [8, 4, 4, 6, 1, 10]])


def value(name: str, shape: torch.Size) -> Tensor:
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
            tensor.copy_(value(authors_name(name, names), tensor.shape))


def small_model(name: str) -> Captioner:
    """The model in float64 and eval mode, filled."""
    settings = model_class(name).Settings(**{**SMALL, **SETTINGS[name]})
    model = build_model(settings, 11).double().eval()
    for part, names in zip((model.fusion, model.decoder), NAMES[name], strict=True):
        fill(part, names)
    return model


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


def features_of(model: Captioner) -> Tensor:
    side = model.settings.grid
    shape = (2, model.encoder.channels, side, side)
    return torch.stack([random(1, *shape), random(2, *shape)], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN)
def test_memory_and_logits_equal_the_authors_code(name):
    model = small_model(name)
    memory = model.fuse(features_of(model))
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
        model = build_model(model_class(name).Settings(), words, pretrained=False)
    parts = (model.encoder, model.fusion, model.decoder)
    counts = [sum(parameter.numel() for parameter in part.parameters()) / 1e6 for part in parts]
    assert counts == pytest.approx(expected, abs=0.05)


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN)
def test_the_order_of_the_dates_matters(name):
    model = small_model(name)
    features = features_of(model)
    assert not torch.allclose(model.fuse(features), model.fuse(features.flip(1)), atol=0.01)
