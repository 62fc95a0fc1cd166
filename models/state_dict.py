"""Compare a state dict with the parameters and buffers of a model."""

from collections.abc import Mapping

from torch import Tensor


def first_misfit(expected: Mapping[str, Tensor], given: Mapping[str, object]) -> str | None:
    """The first difference of a state dict from `expected`, such as "lacks a.bias"; None if it fits."""
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    for rule, names in (("lacks", missing), ("has the unknown weight", unknown)):
        if names:
            return f"{rule} {names[0]} ({len(names)} in all)"
    for name, tensor in expected.items():
        value = given[name]
        if describe(value) != describe(tensor):
            return f"has {name} as {describe(value)}, expected {describe(tensor)}"
        if value.is_meta:
            return f"has {name} without its values"
    return None


def describe(value: object) -> str:
    """ "float32 of shape (16, 3)"."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
