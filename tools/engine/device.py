"""Devices and precision: which GPU a process uses, and what it computes in."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from data.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that a setting names: "auto" (a GPU where there is one, else the CPU) or torch's own name.

    "auto" and "cuda" give each process of a machine a GPU of its own (`own_gpu`). A GPU becomes torch's
    current one, to which random states and pinned memory belong. UserError where the device cannot be used;
    a warning where "auto" takes the CPU although the machine has an NVIDIA GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and Path("/proc/driver/nvidia/gpus").is_dir():
            print(
                "WARNING: this machine has an NVIDIA GPU that this torch cannot use, running on the CPU: "
                f"torch {torch.__version__} needs a driver for CUDA {torch.version.cuda} (see nvidia-smi)",
                file=sys.stderr,
            )
    if name == "cuda" and torch.cuda.is_available():
        name = own_gpu(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count())
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name} cannot be used ({str(error).splitlines()[0]}): give auto or cpu"
        ) from None
    if device.type == "cuda":
        check_architecture(torch.cuda.get_device_capability(device), torch.cuda.get_arch_list())
        torch.cuda.set_device(device)
    return device


def own_gpu(local_rank: int, visible: int) -> str:
    """The GPU of a process: one for each, or the only visible one where a scheduler gives each process its
    own."""
    if visible > 1 and local_rank >= visible:
        raise UserError(
            f"each process needs a GPU of its own, process {local_rank} sees {visible}: start as many "
            "processes on a machine as it has GPUs"
        )
    return f"cuda:{local_rank % visible}"


def check_architecture(capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """UserError where torch has no code for a GPU, given its compute capability and torch's architectures.

    Code of one major version runs on later minor ones (sm_80 on 8.6), and PTX (compute_90) on all later GPUs.
    """
    major, minor = capability
    for name in built_for:
        kind, _, digits = name.partition("_")
        own = int(digits.rstrip("af")[:-1]), int(digits.rstrip("af")[-1])
        fits = own <= capability if kind == "compute" else own[0] == major and own[1] <= minor
        if fits:
            return
    raise UserError(
        f"this GPU has compute capability {major}.{minor}, torch {torch.__version__} is built for "
        f"{', '.join(built_for)}: install a torch for this GPU, or give --train.device cpu"
    )
