"""Precisions of a forward pass: which ones a device supports, and contexts that select one.

"float32", "tf32" (float32 whose products round their factors to TF32), "bf16" and "fp16" (autocast).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def has_bf16_units(device: torch.device) -> bool:
    """Whether a device computes bf16 in hardware.

    A CPU without such units emulates it: a ResNet trains ten times slower than in float32.
    """
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cuda.is_bf16_supported(including_emulation=False)


def usable_precision(precision: str, device: torch.device) -> str:
    """The precision that a device uses for the setting `precision`, see `replacement`."""
    bf16 = precision == "bf16" and has_bf16_units(device)
    return replacement(precision, device.type, bf16=bf16)


def replacement(precision: str, kind: str, *, bf16: bool) -> str:
    """The precision that a device of the `kind` "cpu" or "cuda" computes instead of `precision`.

    A GPU without bf16 units computes fp16; a CPU without them, and for fp16 and tf32 any CPU, float32.
    bf16: whether it has such units.
    """
    if precision == "float32" or (precision == "bf16" and bf16):
        return precision
    if kind == "cpu":
        return "float32"
    return "fp16" if precision == "bf16" and kind == "cuda" else precision


def precision_line(precision: str, device: torch.device) -> str:
    """The precision that a device computes in, and the setting if that differs."""
    usable = usable_precision(precision, device)
    reason = "" if usable == precision else f" ({precision} is not fast on this {device.type})"
    return f"precision {usable}{reason}"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward pass runs in `usable_precision(precision, device)`.

    It also sets, from here on, whether a GPU may round the factors of float32 products to TF32.
    """
    precision = usable_precision(precision, device)
    if device.type == "cuda":
        _allow_tf32(precision != "float32")
    dtype = HALVES.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Float32 products within an `autocast`: no half precision, and on a GPU no rounding to TF32."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(False)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The scaler of losses with which training in `precision` keeps small gradients; for fp16 alone."""
    return torch.amp.GradScaler(device.type, enabled=usable_precision(precision, device) == "fp16")


def tune_convolutions(device: torch.device) -> None:
    """Let cuDNN time its algorithms for each new shape and keep the fastest; shapes should be few.

    Does nothing with torch's deterministic algorithms: the fastest one may differ from run to run.
    """
    if device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        torch.backends.cudnn.benchmark = True
