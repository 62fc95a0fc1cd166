"""Reads the authors' checkpoints, which are pickled modules, without executing code from them.

torch's `weights_only` unpickler reads the file. The authors' classes and torch's modules are replaced by
`Saved`, which only stores its state; other classes and functions are refused.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import UserError
from models.safe_load import check_stored, safe_load, why_unreadable

OWNERS = ("encoder_image", "encoder_image2", "encoder_feat", "decoder")

TORCH_MODULES = [k for k in vars(nn).values() if isinstance(k, type) and issubclass(k, nn.Module)]
CLASSES = (
    "models_Encoder.CNN_Encoder",
    "models_Decoder.MCCFormers_diff_as_Q",
    "models_Decoder.CrossTransformer",
    "models_Decoder.resblock",
    "models_Decoder.DecoderTransformer",
    "models_Decoder.Mesh_TransformerDecoderLayer",
    "models_Decoder.PositionalEncoding",
    "torchvision.models.resnet.BasicBlock",
    "torchvision.models.resnet.Bottleneck",
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear",
    "torch.optim.adam.Adam",
    *(f"{kind.__module__}.{kind.__name__}" for kind in TORCH_MODULES),
)

HEADS = re.compile(  # the attention modules in use
    r"encoder_feat\.transformer\.\d+\.attention2|decoder\.transformer\.layers\.0\.(self|multihead)_attn"
)


class Saved:
    """Replaces a pickled module or optimiser and only keeps its state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class NumpyType(Saved):
    """Replaces numpy.dtype; its state, the byte order and fields of record arrays, is not needed."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code


def numpy_scalar(kind: NumpyType, raw: bytes) -> Any:
    """The Python number of a pickled numpy scalar."""
    return np.frombuffer(raw, kind.code).item()


def plain_dict(*_: Any) -> dict:
    """Replaces collections.defaultdict, which torch's unpickler does not fill."""
    return {}


STAND_INS = (
    *((Saved, name) for name in CLASSES),
    (NumpyType, "numpy.dtype"),
    (numpy_scalar, "numpy.core.multiarray.scalar"),
    (numpy_scalar, "numpy._core.multiarray.scalar"),
    (plain_dict, "collections.defaultdict"),
    (dict, "builtins.dict"),
)


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """The content of a checkpoint of the authors' code.

    tensors: parameters and buffers by owner and name. heads: the number of heads of each attention module in
    use, unchecked. scores: of the validation captions.
    """

    tensors: dict[str, Tensor]
    heads: dict[str, Any]
    epoch: int
    scores: dict[str, float]

    def size(self, name: str, dimension: int) -> int:
        """The size of a parameter along `dimension`; UserError if the parameter or dimension is missing."""
        if name not in self.tensors:
            raise UserError(f"the checkpoint lacks {name}")
        shape = self.tensors[name].shape
        if len(shape) <= dimension or not shape[dimension]:
            raise UserError(
                f"the checkpoint has {name} as {tuple(shape)}: its dimension {dimension} is missing"
            )
        return shape[dimension]


def read_authors_checkpoint(path: Path) -> AuthorsCheckpoint:
    """Read a checkpoint of the authors' code without executing code from it.

    Raises FileNotFoundError; UserError if the file holds an unknown class or function, which the message
    names, or is not a checkpoint of the authors' code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a checkpoint of the authors' code")
    try:
        with _nothing_but(STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid files, for which an error is raised
            content = safe_load(path)
    except (
        Exception
    ) as error:  # the unpickler raises many kinds of errors for foreign, damaged or hostile files
        raise UserError(
            f"{path} is refused ({why_unreadable(error)}): it may hold only tensors and the authors' classes"
        ) from None
    tensors, heads = {}, {}
    for owner in OWNERS:
        if not isinstance(content, dict) or owner not in content:
            raise UserError(f"{path} is not a checkpoint of the authors' code: it has no {owner}")
        for module, state in _modules(owner, content[owner]):
            tensors |= _tensors(module, state)
            if HEADS.fullmatch(module):
                heads[module] = state.get("num_heads")
    epoch = content.get("epoch")
    return AuthorsCheckpoint(
        tensors=tensors,
        heads=heads,
        epoch=epoch if isinstance(epoch, int) else 0,
        scores=_numbers(content.get("bleu-4")),
    )


@contextmanager
def _nothing_but(stand_ins: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """In this context torch's unpickler accepts tensors and `stand_ins`, and no other registered classes."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(list(stand_ins)):
            yield
    finally:
        torch.serialization.add_safe_globals(allowed)


def _modules(name: str, module: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and state of a pickled module and of all its submodules, each once."""
    waiting, seen = [(name, module)], set()
    while waiting:
        name, module = waiting.pop()
        if not isinstance(module, Saved) or not isinstance(module.state, dict):
            raise UserError(f"{name} of the checkpoint is not a pickled module")
        if id(module) not in seen:
            seen.add(id(module))
            yield name, module.state
            children = _entries(name, module.state, "_modules")
            waiting += [(f"{name}.{key}", child) for key, child in children if child is not None]


def _tensors(name: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """The parameters and buffers of a module by name, without those of submodules."""
    tensors = {}
    for key, value in (*_entries(name, state, "_parameters"), *_entries(name, state, "_buffers")):
        if value is not None:
            if not isinstance(value, Tensor) or value.is_meta:
                raise UserError(f"{name}.{key} of the checkpoint is not a tensor")
            try:
                check_stored(value)
            except ValueError as error:
                raise UserError(f"{name}.{key} of the checkpoint is refused: {error}") from None
            tensors[f"{name}.{key}"] = value.detach()
    return tensors


def _entries(name: str, state: dict[str, Any], field: str) -> list[tuple[Any, Any]]:
    if not isinstance(state.get(field, {}), dict):
        raise UserError(f"{name} of the checkpoint is not a pickled module: its {field} is not a dictionary")
    return list(state.get(field, {}).items())


def _numbers(scores: Any) -> dict[str, float]:
    scores = scores if isinstance(scores, dict) else {"bleu-4": scores}
    return {str(name): float(value) for name, value in scores.items() if isinstance(value, int | float)}
