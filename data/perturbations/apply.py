"""Apply a perturbation of the table to the views of a pair."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from data.palette import MapClasses
from data.perturbations import PERTURBATIONS, SEVERITIES, geometric, map_noise, photometric, sensor

# (views (4, 3, H, W) uint8, level, rng, classes): alters the views in place. The draws from `rng` do not
# depend on the level, so severities differ in strength only.
Perturb = Callable[[np.ndarray, float | tuple[float, float], Generator, MapClasses], None]


def alter_image(change: Callable[[Tensor, float, Generator], Tensor]) -> Perturb:
    """Apply `change` to the image of one date, not to its map."""

    def alter(views: np.ndarray, level: float, rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        views[date] = change(torch.from_numpy(views[date]), level, rng).numpy()

    return alter


def alter_date(move: Callable[..., tuple[Tensor, Tensor]]) -> Perturb:
    """Apply `move` to the image and the map of one date."""

    def alter(views: np.ndarray, level: tuple[float, float], rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        moved = move(torch.from_numpy(views[date]), torch.from_numpy(views[date + 2]), level, rng)
        views[date], views[date + 2] = moved[0].numpy(), moved[1].numpy()

    return alter


def alter_maps(change: Callable[[np.ndarray, float, Generator, MapClasses], np.ndarray]) -> Perturb:
    """Apply `change` to both maps, not to the images."""

    def alter(views: np.ndarray, level: float, rng: Generator, classes: MapClasses) -> None:
        views[2:] = change(views[2:], level, rng, classes)

    return alter


MODULES = {
    "photometric": (photometric, alter_image),
    "sensor": (sensor, alter_image),
    "geometric": (geometric, alter_date),
    "map_noise": (map_noise, alter_maps),
}


def uses_maps(name: str) -> bool:
    """Whether a perturbation reads or alters the maps of a pair."""
    return PERTURBATIONS[name].function.partition(".")[0] in ("geometric", "map_noise")


def perturb(
    views: np.ndarray, name: str, severity: int, *, seed: Sequence[int] | int, classes: MapClasses
) -> np.ndarray:
    """A perturbed copy of views (4, 3, H, W) uint8 in the order of VIEWS; severity 0 returns a plain copy.

    If the perturbation does not use maps, views may be just the images (2, 3, H, W). seed: non-negative
    integers that determine date, sign, direction, position and class, independently of process and severity.
    classes: the classes that the data set's maps have at each date.
    """
    altered = np.ascontiguousarray(views).copy()
    if severity:
        perturbation = PERTURBATIONS[name]
        level = perturbation.levels[SEVERITIES.index(severity)]
        module_name, function_name = perturbation.function.split(".")
        module, wrap = MODULES[module_name]
        alter = wrap(getattr(module, function_name))
        alter(altered, level, np.random.default_rng(seed), classes)
    return altered
