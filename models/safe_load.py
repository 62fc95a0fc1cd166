"""torch.load for untrusted files: their content cannot take more memory than the files themselves."""

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from torch import Tensor

from data.errors import UserError

# torch's `weights_only` unpickler calls these. They allocate as much memory as a number in the file asks for,
# or make tensors whose shape says nothing of their memory. Neither our checkpoints nor the authors' hold any.
REFUSED = {
    "__builtin__ bytearray",
    "builtins bytearray",
    "torch Tensor",
    "torch.storage TypedStorage",
    "torch.storage UntypedStorage",
    *(f"{kind.__module__} {kind.__name__}" for kind in torch._tensor_classes),
}
OLD_PICKLES = 5  # of a file of torch 1.5 or before: it begins with so many, raw values follow
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_meta_tensor_no_storage")


def safe_load(path: str | Path, *, mmap: bool = False) -> Any:
    """The content of a file that torch.save wrote, on the CPU, read with `weights_only=True`.

    UserError if records are compressed or overlap, if the pickle calls a function that allocates memory, or
    if a tensor has more elements than its storage. Errors of torch.load pass through.
    """
    for file, count in _pickles(Path(path)):
        for name in _names(file, count):
            module, _, last = name.partition(" ")
            rebuilds = module == "torch._utils" and last.startswith("_rebuild_")
            if name in REFUSED or (rebuilds and last not in REBUILT):
                raise UserError(f"it holds {IMPORT_MAPPING.get(module, module)}.{last}")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    for tensor in _tensors(content):
        check_stored(tensor)
    return content


def why_unreadable(error: Exception) -> str:
    """An error of torch's unpickler in a few words: the class or function that it refused, or the reason."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    if stranger := re.search(r"GLOBAL (\S+)", text):
        module, _, name = stranger[1].rpartition(".")
        module = module or "builtins"
        return f"it holds {IMPORT_MAPPING.get(module, module)}.{name}"  # pickles write Python 2's names
    return text.strip().partition("\n")[0] or type(error).__name__


def check_stored(tensor: Tensor) -> None:
    """UserError where a tensor claims more elements than its storage holds, as an expanded one does."""
    if tensor.is_meta:
        return
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"it holds a tensor of shape {tuple(tensor.shape)} without its values")


def _pickles(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The files with pickles and how many are read in each: the records of a zip file, or the whole file."""
    if not is_zipfile(path):
        with path.open("rb") as file:
            yield file, OLD_PICKLES
        return
    with ZipFile(path) as archive:
        records = archive.infolist()
        if packed := [record.filename for record in records if record.compress_type != ZIP_STORED]:
            raise UserError(f"its record {packed[0]} is compressed, which torch.save never does")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise UserError("its records overlap")
        for record in records:
            if record.filename.endswith(".pkl"):
                with archive.open(record) as file:
                    yield file, 1


def _names(file: IO[bytes], count: int) -> Iterator[str]:
    """The classes and functions that the first `count` pickles in `file` name, as "module name"."""
    for _ in range(count):
        if not file.peek(1):
            return
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                yield argument


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in nested dictionaries, lists and tuples, each container once."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
