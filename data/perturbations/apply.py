"""Apply a perturbation of the table to the views of a pair."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from data.palette import MapClasses
from data.perturbations import PERTURBATIONS, SEVERITIES, geometric, map_noise, photometric, sensor

# (views (4, 3, H, W) uint8, level, rng, classes): alters the views in place. What it draws from `rng` does
# not depend on the level, so a severity differs from the one below it in strength only.
Perturb = Callable[[np.ndarray, float | tuple[float, float], Generator, MapClasses], None]


def one_image(change: Callable[[Tensor, float, Generator], Tensor]) -> Perturb:
    """Alter one date's image, not its map."""

    def alter(views: np.ndarray, level: float, rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        views[date] = change(torch.from_numpy(views[date]), level, rng).numpy()

    return alter


def one_date(move: Callable[..., tuple[Tensor, Tensor]]) -> Perturb:
    """Move one date's image and map together."""

    def alter(views: np.ndarray, level: tuple[float, float], rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        moved = move(torch.from_numpy(views[date]), torch.from_numpy(views[date + 2]), level, rng)
        views[date], views[date + 2] = moved[0].numpy(), moved[1].numpy()

    return alter


def both_maps(change: Callable[[np.ndarray, float, Generator, MapClasses], np.ndarray]) -> Perturb:
    """Alter both maps, not the images."""

    def alter(views: np.ndarray, level: float, rng: Generator, classes: MapClasses) -> None:
        views[2:] = change(views[2:], level, rng, classes)

    return alter


MODULES = {
    "photometric": (photometric, one_image),
    "sensor": (sensor, one_image),
    "geometric": (geometric, one_date),
    "map_noise": (map_noise, both_maps),
}


def uses_maps(name: str) -> bool:
    """Whether a perturbation reads or alters the maps of a pair; others take the images alone."""
    return PERTURBATIONS[name].function.partition(".")[0] in ("geometric", "map_noise")


def perturb(
    views: np.ndarray, name: str, severity: int, *, seed: Sequence[int] | int, classes: MapClasses
) -> np.ndarray:
    """An altered copy of views (4, 3, H, W) uint8 in the order of VIEWS; severity 0 is the identity.

    Where the perturbation does not use maps, views may be the images alone, (2, 3, H, W).
    seed: whole numbers from 0 that decide date, sign, direction, place and class, in every process and at
    every severity alike. classes: that the data set's maps have at each date.
    """
    altered = np.ascontiguousarray(views).copy()
    if severity:
        kind = PERTURBATIONS[name]
        level = kind.levels[SEVERITIES.index(severity)]
        module, function = kind.function.split(".")
        functions, alter = MODULES[module]
        alter(getattr(functions, function))(altered, level, np.random.default_rng(seed), classes)
    return altered
