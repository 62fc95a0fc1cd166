"""The background of a synthetic scene: fields, a river, roads, scattered trees and houses."""

import math

import numpy as np

from data.synthetic.areas import Area
from data.synthetic.materials import (
    COLUMNS,
    ROWS,
    SIZE,
    Canvas,
    fractal_noise,
    line,
    paint_bareland,
    paint_building,
    paint_meadow,
    paint_roads,
    paint_tree,
    paint_water,
    rotated,
)

Lines = dict[str, np.ndarray]  # "road" and "river", if present: masks (H, W) in 0..1


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask (H, W) dilated by some pixels on all sides, as booleans."""
    wide = mask > 0.5
    for _ in range(2):  # along the columns, then, transposed, along the rows
        sums = np.cumsum(np.pad(wide, ((pixels + 1, pixels), (0, 0))), axis=0)
        wide = (sums[2 * pixels + 1 :] > sums[: -2 * pixels - 1]).T
    return wide


def paint_fields(canvas: Canvas, rng: np.random.Generator) -> None:
    """A meadow with two or three plots of other grass or bare soil."""
    paint_meadow(canvas, np.ones((SIZE, SIZE), np.float32), rng)
    angle = rng.uniform(0, math.pi)
    for _ in range(rng.integers(2, 4)):
        along, across = rotated(*rng.uniform(0, SIZE, 2), angle)
        plot = np.clip(np.minimum(along, across) + fractal_noise(rng, 30) * 1.5, 0, 1)
        paint = paint_bareland if rng.random() < 0.3 else paint_meadow
        paint(canvas, plot, rng)


def free_curve(
    areas: list[Area], width: float, angle: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """A curve at about the given angle that avoids all areas, as coordinates (along, across), or None."""
    for _ in range(12):
        turn = angle + rng.uniform(-0.6, 0.6)
        along, across = rotated(*rng.uniform(0.1 * SIZE, 0.9 * SIZE, 2), turn)
        across -= rng.uniform(-0.0012, 0.0012) * along**2
        band = line(across, width + 6)
        if all((band * area.mask).sum() < 0.06 * area.mask.sum() for area in areas):
            return along, across
    return None


def paint_lines(canvas: Canvas, areas: list[Area], rng: np.random.Generator) -> Lines:
    """Paint an optional river and up to two crossing roads, which avoid the areas."""
    lines: Lines = {}
    angle, width = rng.uniform(0, math.pi), rng.uniform(18, 28)
    if rng.random() < 0.35 and (curve := free_curve(areas, width, angle, rng)):
        along, across = curve
        lines["river"] = line(across + 3 * np.sin(along / rng.uniform(18, 30)), width)
        paint_water(canvas, lines["river"], rng)
    roads, angle = [], rng.uniform(0, math.pi)
    for chance, turn in ((0.85, 0), (0.3, math.pi / 2)):
        width = rng.uniform(9, 13)
        if rng.random() < chance and (curve := free_curve(areas, width, angle + turn, rng)):
            roads.append((*curve, width))
    if roads:
        paint_roads(canvas, roads, rng)
        lines["road"] = np.max([line(across, width) for _, across, width in roads], axis=0)
    return lines


def scatter(taken: np.ndarray, count: int, reach: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Up to `count` random points (x, y) at a distance of at least `reach` from the mask `taken` (H, W)."""
    rows, columns = np.nonzero(~grown(taken, reach))
    if not len(rows):
        return []
    chosen = rng.integers(len(rows), size=count)
    return list(zip(columns[chosen].tolist(), rows[chosen].tolist(), strict=True))


def paint_background(canvas: Canvas, areas: list[Area], rng: np.random.Generator) -> Lines:
    """Paint everything that both dates share; returns the roads and the river."""
    paint_fields(canvas, rng)
    lines = paint_lines(canvas, areas, rng)
    taken = np.max([area.mask for area in areas] + list(lines.values()), axis=0) > 0.5
    for x, y in scatter(taken, rng.integers(0, 6), 16, rng):
        angle = areas[0].angle + rng.integers(4) * math.pi / 2
        roof = canvas.tints.roofs[rng.integers(2)] + rng.normal(0, 6)
        if not taken[y, x]:
            house = (rng.uniform(14, 20), rng.uniform(11, 14))
            paint_building(canvas, x, y, angle, house, roof, gable=True)
            taken |= np.hypot(COLUMNS - x, ROWS - y) < 26  # no second house here, and no tree on its roof
    open_land = fractal_noise(rng, 45) < rng.uniform(0.3, 1.8)
    groves = scatter(taken | open_land, rng.integers(40, 120), 7, rng)
    for x, y in groves + scatter(taken, 12, 7, rng):
        paint_tree(canvas, x, y, rng.uniform(3, 6.5), rng)
    return lines
