"""Files that would need more memory than their size are refused before the memory is allocated."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.authors.pickle_reader import read_authors_checkpoint
from models.safe_load import safe_load
from tests.conftest import CONFIGS
from tests.helpers import authors_modules
from tests.models.test_authors_pickle import Call, content
from tools.engine.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.integration

HUGE = 20_000_000_000  # bytes
LOADERS = pytest.mark.parametrize("load", [load_checkpoint, read_authors_checkpoint, safe_load])


def saved(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def refuse(load: Callable, path: Path, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@LOADERS
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch 1.5"])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(bytearray, HUGE), "builtins.bytearray"),
        (Call(torch.FloatTensor, HUGE), "torch.FloatTensor"),
        (Call(torch.UntypedStorage, HUGE), "torch.storage.UntypedStorage"),
        (
            Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, [[], [], [HUGE]]),
            "_rebuild_sparse_tensor",
        ),
    ],
    ids=["bytearray", "tensor", "storage", "sparse"],
)
def test_objects_that_allocate_memory_are_refused_by_name(load, zipped, call, name, tmp_path):
    path = saved(
        {"format": "mmodalcc-1", "epoch": call}, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped
    )
    refuse(load, path, rf"it holds .*{name}")


@LOADERS
def test_a_tensor_without_its_values_is_refused(load, tmp_path):
    claimed = torch.zeros(1).expand(5_000_000, 1, 32)
    path = saved({"format": "mmodalcc-1", "training": [{"deep": (claimed,)}]}, tmp_path / "bad.pt")
    refuse(load, path, r"it holds a tensor of shape \(5000000, 1, 32\) without its values")


def test_positions_with_unstored_rows_are_refused(tmp_path):
    bad = content()
    bad["decoder"].position_encoding.pe = torch.zeros(1).expand(10**12, 1, 32)
    path = authors_modules.save(bad, tmp_path / "bad.pt")
    refuse(
        read_authors_checkpoint,
        path,
        r"position_encoding.pe of the checkpoint is refused: .*\(1000000000000, 1, 32\)",
    )


def packed(path: Path) -> Path:
    """The same zip file with its records compressed."""
    small = path.with_name("packed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return small


@LOADERS
def test_compressed_records_are_refused(load, tmp_path):
    path = packed(saved({"model": torch.zeros(5_000_000)}, tmp_path / "large.pt"))
    assert path.stat().st_size < 100_000
    refuse(load, path, "its record .* is compressed, which torch.save never does")


MEASURED = """
import sys
from pathlib import Path
from tools.engine.checkpoint import load_checkpoint
from models.authors.pickle_reader import read_authors_checkpoint
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = peak()
for path in sys.argv[1:]:
    for load in (load_checkpoint, read_authors_checkpoint):
        try:
            load(Path(path))
        except ValueError:
            pass
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_refusing_takes_no_memory(tmp_path):
    size = 2_000_000_000
    paths = [
        saved({"note": Call(bytearray, size)}, tmp_path / "bytes.pt"),
        saved({"note": torch.zeros(1).expand(size)}, tmp_path / "expanded.pt"),
        packed(saved({"note": torch.zeros(50_000_000)}, tmp_path / "large.pt")),
    ]
    words = [sys.executable, "-c", MEASURED, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=CONFIGS.parent)
    assert int(done.stdout) < 50_000, done.stderr


def test_tied_transposed_and_half_tensors_are_read(tmp_path):
    weight = torch.randn(4, 6)
    values = {"a": weight, "b": weight.T, "c": [weight[1:]], "d": weight.bfloat16(), "e": torch.zeros(0, 5)}
    save_checkpoint(tmp_path / "best.pt", {"model": values, "epoch": 3})
    read = safe_load(tmp_path / "best.pt", mmap=True)["model"]
    assert torch.equal(read["b"], weight.T)
    assert torch.equal(read["c"][0], weight[1:])
    assert read["d"].dtype == torch.bfloat16
