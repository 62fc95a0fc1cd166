"""Choose the device of a process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from data.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device given by a setting: "auto" (a GPU if available, else the CPU) or a name of torch's.

    "auto" and "cuda" give each process of a machine its own GPU (`gpu_of_process`). A GPU becomes torch's
    current device. Raises UserError if the device cannot be used; warns if "auto" falls back to the CPU
    although the machine has an NVIDIA GPU.
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
        name = gpu_of_process(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count())
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


def gpu_of_process(local_rank: int, visible: int) -> str:
    """The GPU of a process. If only one is visible, the scheduler has assigned it to this process."""
    if visible > 1 and local_rank >= visible:
        raise UserError(
            f"each process needs its own GPU, process {local_rank} sees {visible}: start as many processes "
            "on a machine as it has GPUs"
        )
    return f"cuda:{local_rank % visible}"


def check_architecture(capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """Raise UserError if torch has no code for a GPU's compute capability.

    built_for: torch's architectures. Binary code runs on later minor versions (sm_80 on 8.6), PTX
    (compute_90) on all later GPUs.
    """
    major, minor = capability
    for name in built_for:
        kind, _, digits = name.partition("_")
        digits = digits.rstrip("af")
        built_major, built_minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute":
            supported = (built_major, built_minor) <= capability
        else:
            supported = built_major == major and built_minor <= minor
        if supported:
            return
    raise UserError(
        f"this GPU has compute capability {major}.{minor}, torch {torch.__version__} is built for "
        f"{', '.join(built_for)}: install a torch for this GPU, or give --train.device cpu"
    )
