"""Time functions in turn, A B C A B C ..., so that slow phases of the machine affect all of them."""

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

PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}  # size of the square matrices used to measure peak speed


@dataclass(frozen=True)
class Work:
    """A function to time.

    units: number of pairs or captions that one call processes. baseline, limit: names of the works that it
    is compared with. elsewhere: the work is done by other processes.
    """

    call: Callable[[], Any]
    units: int
    precision: str = "float32"
    baseline: str | None = None
    limit: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Row:
    """A measurement, as stored in benchmark.json.

    seconds: per unit, the median of the repeats; fastest, slowest: their extremes. times_released: speed
    relative to the authors' procedure. above_limit: time above that of the limit, as a fraction of it.
    peak_gb: peak memory of this process (on a GPU, of the GPU). share_of_peak: arithmetic speed relative to
    that of a large matrix product, on a GPU.
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
    """Run all works `repeats` times in turn; returns a row for each, and the results of the last calls."""
    operations = {}
    if device.type == "cuda":  # on a GPU this also warms up
        operations = {name: count_operations(work.call) for name, work in works.items()}
    seconds, peaks, results = {name: [] for name in works}, dict.fromkeys(works, 0), {}
    with progress_bar(total=repeats * len(works), unit="run") as progress:
        for _ in range(repeats):
            for name, work in works.items():
                progress.set_description(name)
                reset_peak_memory(device)
                started = time.perf_counter()
                results[name] = work.call()
                synchronise(device)
                seconds[name].append((time.perf_counter() - started) / work.units)
                peaks[name] = max(peaks[name], peak_memory(device))
                progress.update()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, work in works.items():
        share_of_peak = None
        if operations:
            speed = operations[name] / (work.units * medians[name])
            share_of_peak = speed / product_speed(device, work.precision)
        row = Row(
            name=name,
            seconds=medians[name],
            fastest=min(seconds[name]),
            slowest=max(seconds[name]),
            peak_gb=None if work.elsewhere else peaks[name] / 1e9,
            times_released=medians[work.baseline] / medians[name] if work.baseline else None,
            above_limit=medians[name] / medians[work.limit] - 1 if work.limit else None,
            share_of_peak=share_of_peak,
        )
        rows.append(row)
    return rows, results


def format_rows(title: str, unit: str, rows: list[Row]) -> str:
    """Format rows as a table."""
    cells = [[title, f"s/{unit}", "per s", "x authors", "over limit", "peak GB", "of peak"]]
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
    """Wait until a GPU has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Reset peak-memory tracking; where unsupported, peaks are cumulative."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of tensors on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count_operations(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call's matrix products, convolutions and attentions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@cache
def product_speed(device: torch.device, precision: str) -> float:
    """Floating-point operations per second of a large matrix product, the practical peak of the device."""
    size = PRODUCT_SIZE[device.type]
    a = torch.randn(size, size, device=device)
    with torch.inference_mode(), autocast(device, precision):
        b = a @ a  # warm-up; has the dtype of the precision
        synchronise(device)
        started = time.perf_counter()
        for _ in range(10):
            b = b @ b
        synchronise(device)
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware and software of the measurement."""
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
    """The processor's name, if the system provides it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if "model name" in line), platform.processor())
