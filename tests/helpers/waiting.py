"""Counts operations for which the CPU waits for a GPU; on a CPU, those for which it would wait."""

import warnings
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    torch.ops.aten._local_scalar_dense.default,  # item(), bool(), float()
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
}


class _Reads(TorchDispatchMode):
    """Counts reads of floating-point tensors, which the model computed; the others are a batch's, on the
    CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in WAITING and args[0].is_floating_point()
        return operation(*args, **(kwargs or {}))


def waits(call: Callable[[], None], device: torch.device) -> int:
    """The number of operations in `call` for which the CPU waits for the device."""
    if device.type == "cpu":
        with _Reads() as reads:
            call()
        return reads.count
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as actual:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(warning.message) for warning in actual)
