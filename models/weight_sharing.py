"""Weights of one's own or in common: what `model.sharing` means wherever modules stand side by side."""

from collections.abc import Callable, Iterable

from torch import nn


def one_for_each(names: Iterable[str], make: Callable[[], nn.Module], sharing: str) -> dict[str, nn.Module]:
    """A module for each name: "separate", its own (paper); "shared", one under every name (released)."""
    if sharing == "separate":
        return {name: make() for name in names}
    return dict.fromkeys(names, make())
