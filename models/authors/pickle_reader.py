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
    """Stands in for a pickled module or optimiser: keeps its state, has no other behaviour."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class NumpyType(Saved):
    """Stands in for numpy.dtype, whose state is the byte order and what only arrays of records need."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code


def numpy_scalar(kind: NumpyType, raw: bytes) -> Any:
    """The Python number of a pickled numpy scalar."""
    return np.frombuffer(raw, kind.code).item()


def plain_dict(*_: Any) -> dict:
    """Stands in for collections.defaultdict, which the unpickler would not fill."""
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
class Released:
    """What a released checkpoint holds.

    tensors: parameters and buffers by owner and name. heads: those of each attention in use, unchecked.
    scores: those of the validation captions.
    """

    tensors: dict[str, Tensor]
    heads: dict[str, Any]
    epoch: int
    scores: dict[str, float]

    def size(self, name: str, dimension: int) -> int:
        """A parameter's length along `dimension`; UserError where it is missing or has none."""
        if name not in self.tensors:
            raise UserError(f"the checkpoint lacks {name}")
        shape = self.tensors[name].shape
        if len(shape) <= dimension or not shape[dimension]:
            raise UserError(
                f"the checkpoint has {name} as {tuple(shape)}: its dimension {dimension} is missing"
            )
        return shape[dimension]


def read_released(path: Path) -> Released:
    """Read a released checkpoint; nothing in it is executed.

    Raises FileNotFoundError; UserError where the file holds a class or function besides the known ones
    (it is named) or is no released checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a checkpoint of the released code")
    try:
        with _nothing_but(STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange files, which an error follows
            content = safe_load(path)
    except Exception as error:  # a foreign, damaged or hostile file makes the unpickler fail in a dozen ways
        raise UserError(
            f"{path} is refused ({why_unreadable(error)}): only tensors and the released classes may be in it"
        ) from None
    absent = [owner for owner in OWNERS if not isinstance(content, dict) or owner not in content]
    if absent:
        raise UserError(f"{path} is no checkpoint of the released code: it has no {absent[0]}")
    modules = []
    for owner in OWNERS:
        modules += _modules(owner, content[owner])
    epoch = content.get("epoch")
    return Released(
        tensors={name: value for module, state in modules for name, value in _tensors(module, state)},
        heads={module: state.get("num_heads") for module, state in modules if HEADS.fullmatch(module)},
        epoch=epoch if isinstance(epoch, int) else 0,
        scores=_numbers(content.get("bleu-4")),
    )


@contextmanager
def _nothing_but(stand_ins: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """While this lasts torch's unpickler admits these besides tensors, and nothing that others allowed."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(list(stand_ins)):
            yield
    finally:
        torch.serialization.add_safe_globals(allowed)


def _modules(name: str, module: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and state of a pickled module and of all below it, each once."""
    waiting, seen = [(name, module)], set()
    while waiting:
        name, module = waiting.pop()
        if not isinstance(module, Saved) or not isinstance(module.state, dict):
            raise UserError(f"{name} of the checkpoint is no pickled module")
        if id(module) not in seen:
            seen.add(id(module))
            yield name, module.state
            children = _entries(name, module.state, "_modules")
            waiting += [(f"{name}.{key}", child) for key, child in children if child is not None]


def _tensors(name: str, state: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters and buffers by name."""
    for key, value in (*_entries(name, state, "_parameters"), *_entries(name, state, "_buffers")):
        if value is not None:
            if not isinstance(value, Tensor) or value.is_meta:
                raise UserError(f"{name}.{key} of the checkpoint is no tensor")
            try:
                check_stored(value)
            except ValueError as error:
                raise UserError(f"{name}.{key} of the checkpoint is refused: {error}") from None
            yield f"{name}.{key}", value.detach()


def _entries(name: str, state: dict[str, Any], field: str) -> list[tuple[Any, Any]]:
    if not isinstance(state.get(field, {}), dict):
        raise UserError(f"{name} of the checkpoint is no pickled module: its {field} are no dictionary")
    return list(state.get(field, {}).items())


def _numbers(scores: Any) -> dict[str, float]:
    scores = scores if isinstance(scores, dict) else {"bleu-4": scores}
    return {str(name): float(value) for name, value in scores.items() if isinstance(value, int | float)}
