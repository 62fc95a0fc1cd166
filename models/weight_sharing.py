"""Modules with separate or shared weights, as `model.sharing` says."""

from collections.abc import Callable, Iterable

from torch import nn


def one_for_each(names: Iterable[str], make: Callable[[], nn.Module], sharing: str) -> dict[str, nn.Module]:
    """A module for each name: "separate", different ones (paper); "shared", a single one (authors' code)."""
    if sharing == "separate":
        return {name: make() for name in names}
    return dict.fromkeys(names, make())
