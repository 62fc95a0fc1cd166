"""Painters for the land uses of areas in a synthetic scene, from forest to parking lot.

A painter fills the whole area, so that any land use can replace any other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.synthetic.materials import (
    HALLS,
    PLAYGROUND,
    SIZE,
    TREE,
    WHITE,
    Canvas,
    box,
    fractal_noise,
    line,
    paint_bareland,
    paint_building,
    paint_car,
    paint_meadow,
    paint_pavement,
    paint_roads,
    paint_tree,
    paint_water,
    rotated,
)


@dataclass(frozen=True)
class Area:
    """An area of `length` by `width` pixels centred at (x, y), rotated by `angle`; `mask` (H, W)."""

    x: float
    y: float
    angle: float
    length: float
    width: float
    mask: np.ndarray

    def point(self, along: float, across: float) -> tuple[float, float]:
        """Image coordinates (x, y) of a point in the area's coordinates."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos

    def holds(self, along: float, across: float, reach: float) -> bool:
        """Whether a point, and four points at distance `reach`, are inside the area and the image."""
        steps = [(0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach)]
        points = [self.point(along + u, across + v) for u, v in steps]
        return all(0 <= x < SIZE and 0 <= y < SIZE and self.mask[int(y), int(x)] > 0.5 for x, y in points)

    def grid(self, step_along: float, step_across: float) -> list[tuple[float, float]]:
        """Points of a grid over the area in its coordinates, none of them on its two axes."""
        half_u = np.arange(step_along / 2, self.length / 2, step_along)
        half_v = np.arange(step_across / 2, self.width / 2, step_across)
        us = np.concatenate([-half_u, half_u]).tolist()
        vs = np.concatenate([-half_v, half_v]).tolist()
        return [(u, v) for v in vs for u in us]


def outline(
    x: float, y: float, angle: float, length: float, width: float, natural: bool, rng: np.random.Generator
) -> Area:
    """A natural area, round and irregular, or a built one, nearly rectangular."""
    along, across = rotated(x, y, angle)
    power, wobble = (rng.uniform(2.5, 4), 2.4) if natural else (rng.uniform(9, 14), 0.3)
    radius = (np.abs(along / (length / 2)) ** power + np.abs(across / (width / 2)) ** power) ** (1 / power)
    inside = (1 - radius) * width / 2 + fractal_noise(rng, 24) * wobble
    return Area(x, y, angle, length, width, np.clip(inside + 0.5, 0, 1))


def paint_forest(canvas: Canvas, area: Area, rng: np.random.Generator) -> None:
    """Dense tree crowns; the whole area has the class tree."""
    canvas.paint(area.mask, canvas.tints.tree * 0.62 + fractal_noise(rng, 3)[..., None] * 4, TREE)
    step = rng.uniform(6.5, 8.5)
    for along, across in rng.permutation(area.grid(step, step)).tolist():
        along, across = along + rng.normal(0, step / 4), across + rng.normal(0, step / 4)
        radius = step * rng.uniform(0.5, 0.85)
        if area.holds(along, across, 0.5 * radius):
            paint_tree(canvas, *area.point(along, across), radius, rng)


def paint_residential(canvas: Canvas, area: Area, rng: np.random.Generator) -> None:
    """Rows of houses along a street, with lawns, paved yards and a few trees."""
    paint_meadow(canvas, area.mask, rng)
    paint_pavement(canvas, np.clip(fractal_noise(rng, 14) * 1.5 + 0.1, 0, 1) * area.mask, rng, light=1.35)
    along, across = rotated(area.x, area.y, area.angle)
    paint_roads(canvas, [(along, np.where(area.mask > 0.5, across, SIZE), 9)], rng)
    step = rng.uniform(19, 22)
    for u, v in area.grid(step, 20):
        v += math.copysign(5.5, v)  # the first rows leave room for the street
        if area.holds(u, v, 8):
            house = (rng.uniform(14, 17), rng.uniform(12, 14))
            roof = canvas.tints.roofs[int(rng.random() < 0.25)] + rng.normal(0, 6)
            paint_building(canvas, *area.point(u, v), area.angle, house, roof, gable=True)
        if area.holds(u + step / 2, v, 3) and rng.random() < 0.4:
            x, y = area.point(u + step / 2, v + rng.uniform(-5, 5))
            paint_tree(canvas, x, y, rng.uniform(2.5, 4), rng)


def paint_hall(canvas: Canvas, area: Area, rng: np.random.Generator) -> None:
    """A large flat roof with vents on a paved yard."""
    paint_pavement(canvas, area.mask, rng, light=rng.uniform(1.1, 1.4))
    roof = HALLS[rng.integers(len(HALLS))]
    length, width = area.length * rng.uniform(0.74, 0.8), area.width * rng.uniform(0.68, 0.76)
    paint_building(canvas, area.x, area.y, area.angle, (length, width), roof, gable=False)
    for u in np.arange(8 - length / 2, length / 2 - 6, 12):
        x, y = area.point(u, rng.uniform(-0.3, 0.3) * width)
        paint_building(canvas, x, y, area.angle, (4, 4), roof * 0.8, gable=True)


def paint_playground(canvas: Canvas, area: Area, rng: np.random.Generator) -> None:
    """A sports ground: a red running track with white lanes around a green pitch."""
    red, green = np.float32((176, 84, 66)), np.float32((74, 134, 82))
    grain = fractal_noise(rng, 1.5)[..., None] * 3 + rng.normal(0, 8)
    canvas.paint(area.mask, red + grain, PLAYGROUND)
    along, across = rotated(area.x, area.y, area.angle)
    straight = (area.length - area.width) / 2  # half of it: from the middle to where the bend begins
    distance = np.hypot(np.maximum(np.abs(along) - straight, 0), across) / (area.width / 2)
    lanes = sum(line((distance - lane) * area.width / 2, 0.9) for lane in (0.62, 0.71, 0.80, 0.89))
    canvas.paint(0.7 * lanes * area.mask, WHITE)
    stripes = 5 * np.sign(np.sin(along * (2 * math.pi / 14)))[..., None]
    canvas.paint(np.clip((0.58 - distance) * area.width / 2, 0, 1) * area.mask, green + stripes + grain)
    pitch = (straight * 2 + area.width * 0.22, area.width * 0.48)
    field = box(along, across, *pitch)
    border = field - box(along, across, pitch[0] - 2, pitch[1] - 2)
    circle = line(np.hypot(along, across) - area.width * 0.1, 1.0)
    canvas.paint(0.8 * np.clip(border + circle + line(along, 1.0) * field, 0, 1) * area.mask, WHITE)


def paint_parking(canvas: Canvas, area: Area, rng: np.random.Generator) -> None:
    """Asphalt with double rows of marked stalls, about half of them with a car."""
    paint_pavement(canvas, area.mask, rng, light=0.9)
    along, across = rotated(area.x, area.y, area.angle)
    row = np.mod(across, 26) - 13  # a double row is 18 deep, the lane between two of them 8
    marks = np.maximum(line(np.mod(along, 5) - 2.5, 0.8) * (np.abs(row) < 9), line(row, 0.8))
    canvas.paint(0.55 * marks * area.mask, WHITE)
    for u, v in area.grid(5, 26):
        for side in (-4.5, 4.5):
            if rng.random() < 0.5 and area.holds(u, v + side, 4):
                paint_car(canvas, *area.point(u, v + side), area.angle + math.pi / 2, rng)


AreaPainter = Callable[[Canvas, Area, np.random.Generator], None]


def covering(paint: Callable[[Canvas, np.ndarray, np.random.Generator], None]) -> AreaPainter:
    """A painter that covers an area with one material."""
    return lambda canvas, area, rng: paint(canvas, area.mask, rng)


NATURAL_USES: dict[str, AreaPainter] = {
    "meadow": covering(paint_meadow),
    "bareland": covering(paint_bareland),
    "lake": covering(paint_water),
    "forest": paint_forest,
}
BUILT_USES: dict[str, AreaPainter] = {
    "residential": paint_residential,
    "hall": paint_hall,
    "playground": paint_playground,
    "parking": paint_parking,
}
AREA_PAINTERS = NATURAL_USES | BUILT_USES
