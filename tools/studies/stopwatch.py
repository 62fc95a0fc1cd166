"""Times pieces of work side by side, A B C A B C ..., so that a slow minute of the machine meets them all."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from models.precision import autocast
from tools.engine.progress_bar import progress_bar
from tools.scoring.table import aligned

PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}  # rows of the square matrices whose product is a device's peak


@dataclass(frozen=True)
class Work:
    """Something to time. units: how many pairs, captions ... one call does; precision: what it computes in.

    released, limit: the names of the works that it stands beside. elsewhere: other processes do it.
    """

    call: Callable[[], Any]
    units: int
    precision: str = "float32"
    released: str | None = None
    limit: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Row:
    """What was measured. seconds: of one unit, the median; fastest, slowest: the extremes of the repeats.

    times_released: how often it fits into the released procedure's time; above_limit: what it takes on top of
    its limit, as a share of the limit's time; peak_gb: the most memory (a GPU's own) that this process held;
    share_of_peak: its arithmetic beside that of a large matrix product, on a GPU.
    """

    name: str
    seconds: float
    fastest: float
    slowest: float
    peak_gb: float | None
    times_released: float | None
    above_limit: float | None
    share_of_peak: float | None


def time_side_by_side(
    works: dict[str, Work], repeats: int, device: torch.device
) -> tuple[list[Row], dict[str, Any]]:
    """Every work `repeats` times in turn -> a row for each, and what its last call returned."""
    operations = {}
    if device.type == "cuda":  # on a GPU this also warms up
        operations = {name: count_operations(work.call) for name, work in works.items()}
    seconds, peaks, results = {name: [] for name in works}, dict.fromkeys(works, 0), {}
    with progress_bar(total=repeats * len(works), unit="run") as progress:
        for _ in range(repeats):
            for name, work in works.items():
                progress.set_description(name)
                forget_peak(device)
                started = time.perf_counter()
                results[name] = work.call()
                synchronise(device)
                seconds[name].append((time.perf_counter() - started) / work.units)
                peaks[name] = max(peaks[name], peak_memory(device))
                progress.update()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        Row(
            name=name,
            seconds=medians[name],
            fastest=min(seconds[name]),
            slowest=max(seconds[name]),
            peak_gb=None if work.elsewhere else peaks[name] / 1e9,
            times_released=medians[work.released] / medians[name] if work.released else None,
            above_limit=medians[name] / medians[work.limit] - 1 if work.limit else None,
            share_of_peak=operations[name]
            / (work.units * medians[name] * product_speed(device, work.precision))
            if operations
            else None,
        )
        for name, work in works.items()
    ]
    return rows, results


def format_rows(title: str, unit: str, rows: list[Row]) -> str:
    """A text table: a line for each row."""
    cells = [[title, f"s a {unit}", "a second", "x released", "over limit", "peak GB", "of peak"]]
    for row in rows:
        cells.append(
            [
                row.name,
                f"{row.seconds:.4f}",
                f"{1 / row.seconds:.2f}",
                f"{row.times_released:.2f}" if row.times_released else "-",
                f"{row.above_limit:+.0%}" if row.above_limit is not None else "-",
                f"{row.peak_gb:.2f}" if row.peak_gb else "-",
                f"{row.share_of_peak:.0%}" if row.share_of_peak else "-",
            ]
        )
    return aligned(cells)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Let the peak of memory begin anew; where a system has no means for it, a peak is that of all so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes: the tensors' on a GPU, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count_operations(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@cache
def product_speed(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product: what the device reaches in practice."""
    size = PRODUCT_SIZE[device.type]
    a = torch.randn(size, size, device=device)
    with torch.inference_mode(), autocast(device, precision):
        b = a @ a  # warms up, and has the type of the precision
        synchronise(device)
        started = time.perf_counter()
        for _ in range(10):
            b = b @ b
        synchronise(device)
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def machine(device: torch.device) -> dict[str, Any]:
    """Where and with what the figures were taken."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{library.__name__: library.__version__ for library in (torch, torchvision, np, h5py)},
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if "model name" in line), platform.processor())
