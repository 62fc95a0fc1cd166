"""Precompute the features of a frozen trunk in memory shared by all processes of a machine."""

import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from data.atomic_write import cannot_write
from data.dataset import ChangeCaptions
from models.captioner import Captioner
from models.precision import autocast
from tools.engine.distributed import Processes
from tools.engine.progress_bar import progress_bar

MEMORY, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
SHARE = 0.9  # fraction of the available memory that the features may use


def keep_features(
    splits: Iterable[ChangeCaptions],
    features: Callable[[Tensor], Tensor],
    folder: Path,
    processes: Processes,
    available: int | None = None,
) -> None:
    """Replace the views of all pairs by `features(views (1, 4, 3, H, W))`, (1, ...) bfloat16.

    Each process of a machine computes a share, and all share one copy in memory: files in `folder`, which are
    removed as soon as every process has mapped them. available: bytes of memory, by default those of the
    system. Raises ValueError if the features do not fit.
    """
    rank, count = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    splits = list(splits)
    shape = features(_views(splits[0], 0)).shape[1:]
    with processes.together():
        pairs = sum(len(samples.rows) for samples in splits)
        _check_room(2 * pairs * math.prod(shape), available_memory() if available is None else available)
    for number, samples in enumerate(splits):
        path = folder / f".trunk_features_{os.environ.get('GROUP_RANK', 0)}_{number}"
        size = len(samples.rows) * math.prod(shape)
        try:
            with processes.together():
                if rank == 0:
                    _allocate(path, 2 * size)
            with processes.together():
                kept = torch.from_file(str(path), shared=True, size=size, dtype=torch.bfloat16)
        finally:
            if rank == 0:
                with suppress(FileNotFoundError, PermissionError):  # Windows keeps a mapped file
                    path.unlink()
        kept = kept.view(-1, *shape)
        share = range(rank, len(samples.rows), count)
        for index in progress_bar(share, "trunk features", unit="pair", shown=processes.writes):
            kept[index] = features(_views(samples, index))[0]
        samples.keep_features(kept)
    with processes.together():  # wait until all processes have computed their shares
        pass


@torch.inference_mode()
def trunk_features(model: Captioner, precision: str, views: Tensor) -> Tensor:
    """The features of views (B, 4, 3, H, W) uint8 by frozen trunks, in bfloat16: (B, 4, C, grid, grid)."""
    with autocast(model.device, precision):
        return model.eval().features(views.to(model.device)).bfloat16()


def _views(samples: ChangeCaptions, index: int) -> Tensor:
    """The views (1, 4, 3, H, W) uint8 of the pair `samples.rows[index]`."""
    return samples.views_at(samples.rows[index]).unsqueeze(0)


def _check_room(needed: int, available: int | None) -> None:
    if available is not None and needed > SHARE * available:
        raise ValueError(
            f"train.keep_features needs {needed / 1e9:.1f} GB of memory for the features of all pairs, "
            f"{available / 1e9:.1f} GB are available: give --train.keep_features false"
        )


def _allocate(path: Path, size: int) -> None:
    """Create a file of `size` bytes. OSError if the disk has no room for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # without it a full disk would kill the process later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise cannot_write(path, error.strerror) from error


def available_memory() -> int | None:
    """Available memory in bytes: the system's or the container's, whichever is less; None if unknown."""
    available = []
    if MEMORY.exists():
        for line in MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available.append(1024 * int(line.split()[1]))
    limit, used, parts = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        cached = [int(line.split()[1]) for line in parts.read_text().splitlines() if line.startswith("file ")]
        available.append(int(limit.read_text()) - int(used.read_text()) + sum(cached))
    return min(available, default=None)
