"""Checkpoints as the authors' code pickles them: modules under its class names, and Adam optimisers.

The classes exist only while a file is written, so that reading cannot import them. They have the parameters
of the authors' code (names and shapes) and no forward pass.
"""

import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

SCORES = {"Bleu_1": 0.75, "Bleu_4": 0.5, "CIDEr": 1.25}


class CNN_Encoder(nn.Module):  # noqa: N801
    def __init__(self, trunk: str, grid: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*list(torchvision.models.get_model(trunk).children())[:-3])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((grid, grid))


class CrossTransformer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=0.5)
        self.attention2 = nn.MultiheadAttention(width, heads, dropout=0.5)
        for i in range(1, 5):
            setattr(self, f"norm{i}", nn.LayerNorm(width))
            setattr(self, f"dropout{i}", nn.Dropout(0.5))
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.linear3, self.linear4 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.activation = nn.ReLU()


class resblock(nn.Module):  # noqa: N801
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.left = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels),
        )  # fmt: skip


class MCCFormers_diff_as_Q(nn.Module):  # noqa: N801
    def __init__(self, channels: int, width: int, heads: int, inner: int, grid: int, layers: int) -> None:
        super().__init__()
        self.w_embedding, self.h_embedding = nn.Embedding(grid, width // 2), nn.Embedding(grid, width // 2)
        self.embedding_1D = nn.Embedding(grid * grid, width)
        self.projection, self.projection2 = nn.Conv2d(channels, width, 1), nn.Conv2d(channels, width, 1)
        self.transformer = nn.ModuleList(CrossTransformer(width, heads, inner) for _ in range(layers))
        self.resblock = nn.ModuleList(resblock(2 * width) for _ in range(layers))
        self.LN = nn.ModuleList(nn.LayerNorm(2 * width) for _ in range(layers))


class Mesh_TransformerDecoderLayer(nn.Module):  # noqa: N801
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        for name in ("self_attn", "multihead_attn", "multihead_attn2"):
            setattr(self, name, nn.MultiheadAttention(width, heads, dropout=0.5))
        self.gate = nn.Sequential(nn.Linear(2 * width, width), nn.Sigmoid())
        self.gate2 = nn.Sequential(nn.Linear(2 * width, width), nn.Sigmoid())
        self.gate3 = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        for i in range(1, 5):
            setattr(self, f"norm{i}", nn.LayerNorm(width))


class PositionalEncoding(nn.Module):
    def __init__(self, width: int, rows: int = 5000) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        time = torch.arange(rows, dtype=torch.float).unsqueeze(1)
        rates = torch.exp(torch.arange(0, width, 2).float() * (-np.log(10000.0) / width))
        pe = torch.zeros(rows, width)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(time * rates), torch.cos(time * rates)
        self.register_buffer("pe", pe.unsqueeze(1))
        self.embedding_1D = nn.Embedding(52, width)


class DecoderTransformer(nn.Module):
    def __init__(self, words: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.vocab_embedding = nn.Embedding(words, width)
        self.transformer = nn.TransformerDecoder(Mesh_TransformerDecoderLayer(width, heads, inner), 1)
        self.position_encoding = PositionalEncoding(width)
        self.wdc = nn.Linear(width, words)
        self.dropout = nn.Dropout(0.5)


PICKLED_AS = {
    "models_Encoder": (CNN_Encoder,),
    "models_Decoder": (
        MCCFormers_diff_as_Q, CrossTransformer, resblock, DecoderTransformer, Mesh_TransformerDecoderLayer,
        PositionalEncoding,
    ),
}  # fmt: skip


def build(
    words: int, *, trunk: str = "resnet18", width: int = 16, heads: int = 2, inner: int = 32, grid: int = 3,
    layers: int = 2, seed: int = 0,
) -> dict[str, nn.Module]:  # fmt: skip
    """The four modules by their key in a checkpoint, with random parameters and statistics."""
    torch.manual_seed(seed)
    encoders = CNN_Encoder(trunk, grid), CNN_Encoder(trunk, grid)
    channels = encoders[0].net(torch.zeros(1, 3, 32, 32)).shape[1]
    modules = {
        "encoder_image": encoders[0],
        "encoder_image2": encoders[1],
        "encoder_feat": MCCFormers_diff_as_Q(channels, width, heads, inner, grid, layers),
        "decoder": DecoderTransformer(words, 2 * width, heads, 2 * inner),
    }
    for module in nn.ModuleList(modules.values()).modules():
        _randomise(module)
    for encoder in encoders:
        encoder.net.train()(pictures(16)[:, 0] / 255)
    modules["decoder"].wdc.weight.data *= 4  # more decided about the next word
    return modules


@torch.no_grad()
def _randomise(module: nn.Module) -> None:
    """Randomise biases, scales and statistics, which are 0 and 1 initially."""
    for name, parameter in module.named_parameters(recurse=False):
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) and name == "weight":
            parameter.uniform_(0.2, 0.8) if isinstance(module, nn.BatchNorm2d) else parameter.uniform_(
                0.5, 1.5
            )
        elif name.endswith("bias"):
            parameter.uniform_(-0.3, 0.3)
    if isinstance(module, nn.BatchNorm2d):
        module.momentum = 1.0
        module.running_mean.uniform_(-0.3, 0.3)
        module.running_var.uniform_(0.5, 1.5)


def pictures(pairs: int, size: int = 64, seed: int = 0) -> torch.Tensor:
    """Views of coarse coloured squares, (pairs, 4, 3, size, size) uint8."""
    squares = torch.randint(0, 256, (pairs, 4, 3, 4, 4), generator=torch.Generator().manual_seed(seed)).byte()
    return squares.repeat_interleave(size // 4, -1).repeat_interleave(size // 4, -2)


def tensors_of(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Parameters and buffers by owner and name, as the naive computation takes them; copies."""
    return {
        f"{owner}.{name}": t.clone() for owner, m in modules.items() for name, t in m.state_dict().items()
    }


def checkpoint(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """What the authors' training script saves, with the state of its Adam optimisers."""
    adams = {}
    for owner, name in (
        ("encoder_image", "encoder_image_optimizer"), ("encoder_image2", "encoder_image_optimizer2"),
        ("encoder_feat", "encoder_feat_optimizer"), ("decoder", "decoder_optimizer"),
    ):  # fmt: skip
        adams[name] = torch.optim.Adam(modules[owner].parameters(), lr=5e-5)
    learning = next(modules["decoder"].parameters())
    learning.grad = torch.zeros_like(learning)  # a step that fills the Adam's state and moves nothing
    adams["decoder_optimizer"].step()
    learning.grad = None
    scores = {name: np.float64(value) for name, value in SCORES.items()}
    return {"epoch": 7, "epochs_since_improvement": 0, "bleu-4": scores, **modules, **adams}


@contextmanager
def authors_names() -> Iterator[None]:
    """In this context the classes above are pickled under the authors' names."""
    homes = {cls: cls.__module__ for classes in PICKLED_AS.values() for cls in classes}
    try:
        for module, classes in PICKLED_AS.items():
            sys.modules[module] = types.ModuleType(module)
            for cls in classes:
                cls.__module__ = module
                setattr(sys.modules[module], cls.__name__, cls)
        yield
    finally:
        for cls, home in homes.items():
            cls.__module__ = home
        for module in PICKLED_AS:
            sys.modules.pop(module, None)


def save(content: Any, path: Path, **options: Any) -> Path:
    """torch.save as the authors' script calls it."""
    with authors_names():
        torch.save(content, path, **options)
    return path


NEWER_ATTRIBUTES = (  # of modules, since torch 1.10
    "_backward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs", "_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def save_as_torch_1_10(content: dict[str, Any], path: Path) -> Path:
    """A file as torch 1.10 on a GPU writes it: fewer attributes and records, numpy's old name, cuda:0."""
    for module in nn.ModuleList(
        value for value in content.values() if isinstance(value, nn.Module)
    ).modules():
        for name in NEWER_ATTRIBUTES:
            module.__dict__.pop(name, None)
    for adam in (value for value in content.values() if isinstance(value, torch.optim.Optimizer)):
        for state in adam.state.values():
            state["step"] = int(state["step"])
        for group in (*adam.param_groups, adam.defaults):
            for name in group.keys() - {"params", "lr", "betas", "eps", "weight_decay", "amsgrad"}:
                del group[name]
    newer = save(content, path.with_suffix(".newer"))
    with zipfile.ZipFile(newer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for record in source.namelist():
            data = source.read(record)
            if record.endswith("/data.pkl"):
                data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            if record.endswith(("/data.pkl", "/version")) or "/data/" in record:
                target.writestr(record, data)
    newer.unlink()
    return path
