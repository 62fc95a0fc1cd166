"""Differences between the dates that are no change of the land, and errors of the maps: five severities each.

They test a trained model and augment training (`data.augment`). A perturbation of images alters one of the
two dates, so that the dates differ. Pixels are those of the images as the network sees them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from data.palette import MapClasses
from data.perturbations import geometric, map_noise, photometric, sensor

SEVERITIES = (1, 2, 3, 4, 5)


class Change(NamedTuple):
    """alter(views (4, 3, H, W) uint8, level, rng, classes): alters the views in place.

    What it draws from `rng` does not depend on the level, so a severity differs from the one below it in
    strength only.
    uses_maps: if False, `alter` also takes the images alone, (2, 3, H, W).
    """

    alter: Callable[[np.ndarray, float | tuple[float, float], Generator, MapClasses], None]
    uses_maps: bool


class Perturbation(NamedTuple):
    """group: what it disturbs. unit: of `levels`, which stand in the order of SEVERITIES."""

    group: str
    unit: str
    levels: tuple
    change: Change


def one_image(change: Callable[[Tensor, float, Generator], Tensor]) -> Change:
    """Alter one date's image, not its map."""

    def alter(views: np.ndarray, level: float, rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        views[date] = change(torch.from_numpy(views[date]), level, rng).numpy()

    return Change(alter, uses_maps=False)


def one_date(move: Callable[..., tuple[Tensor, Tensor]]) -> Change:
    """Move one date's image and map together."""

    def alter(views: np.ndarray, level: tuple[float, float], rng: Generator, _: MapClasses) -> None:
        date = rng.integers(2)
        moved = move(torch.from_numpy(views[date]), torch.from_numpy(views[date + 2]), level, rng)
        views[date], views[date + 2] = moved[0].numpy(), moved[1].numpy()

    return Change(alter, uses_maps=True)


def both_maps(change: Callable[[np.ndarray, float, Generator, MapClasses], np.ndarray]) -> Change:
    """Alter both maps, not the images."""

    def alter(views: np.ndarray, level: float, rng: Generator, classes: MapClasses) -> None:
        views[2:] = change(views[2:], level, rng, classes)

    return Change(alter, uses_maps=True)


LIGHT, SENSOR, MAPS = "photometric", "geometric and sensor", "map noise"
PAINTING = frozenset({"map_confusion", "map_invented"})  # those that draw from the classes of the data set

# fmt: off
PERTURBATIONS: dict[str, Perturbation] = {
    "brightness": Perturbation(
        LIGHT, "stops, up or down", (0.15, 0.3, 0.6, 1.0, 1.5), one_image(photometric.brightness)),
    "contrast": Perturbation(
        LIGHT, "factor, or its inverse", (1.1, 1.25, 1.5, 1.9, 2.5), one_image(photometric.contrast)),
    "gamma": Perturbation(
        LIGHT, "exponent, or its inverse", (1.1, 1.25, 1.5, 1.9, 2.5), one_image(photometric.gamma)),
    "colour_cast": Perturbation(
        LIGHT, "stops between red and blue", (0.2, 0.4, 0.8, 1.2, 1.8), one_image(photometric.colour_cast)),
    "haze": Perturbation(
        LIGHT, "share of the light that is lost", (0.03, 0.07, 0.15, 0.3, 0.5), one_image(photometric.haze)),
    "gaussian_blur": Perturbation(
        SENSOR, "sigma in pixels", (0.5, 0.8, 1.3, 2.0, 3.0), one_image(sensor.gaussian_blur)),
    "motion_blur": Perturbation(
        SENSOR, "path in pixels", (2, 4, 6, 9, 14), one_image(sensor.motion_blur)),
    "viewpoint": Perturbation(
        SENSOR, "corners' own moves as a share of the side, and rotation in degrees",
        ((0.005, 0.5), (0.01, 1), (0.02, 2), (0.035, 3), (0.05, 5)), one_date(geometric.viewpoint)),
    "resolution": Perturbation(
        SENSOR, "times fewer pixels a side", (1.25, 1.6, 2.2, 3, 4), one_image(sensor.resolution)),
    "registration": Perturbation(
        SENSOR, "shift in pixels, and difference in scale in per cent",
        ((0.5, 0.1), (1, 0.25), (2, 0.5), (4, 1), (8, 2)), one_date(geometric.registration)),
    "noise": Perturbation(
        SENSOR, "sigma in 8-bit counts", (4, 8, 15, 25, 35), one_image(sensor.noise)),
    "jpeg": Perturbation(
        SENSOR, "quality", (85, 60, 40, 25, 15), one_image(sensor.jpeg)),
    "map_confusion": Perturbation(
        MAPS, "share of regions confused", (0.1, 0.25, 0.5, 0.75, 1.0), both_maps(map_noise.confusion)),
    "map_borders": Perturbation(
        MAPS, "pixels too far out or in", (1, 2, 4, 6, 10), both_maps(map_noise.borders)),
    "map_missing": Perturbation(
        MAPS, "share of changed areas missed", (0.1, 0.25, 0.5, 0.75, 1.0), both_maps(map_noise.missing)),
    "map_invented": Perturbation(
        MAPS, "changed areas invented", (1, 2, 3, 5, 8), both_maps(map_noise.invented)),
    "map_void": Perturbation(
        MAPS, "share of pairs without maps", (0.1, 0.25, 0.5, 0.75, 1.0), both_maps(map_noise.void)),
}
# fmt: on


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
        kind.change.alter(altered, level, np.random.default_rng(seed), classes)
    return altered
