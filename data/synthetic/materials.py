"""The materials and objects of a synthetic scene, painted on a canvas.

A Canvas holds the image and the class of each pixel. Painters of land cover (grass, soil, water, pavement)
fill a mask (H, W) of values in 0..1; painters of objects (trees, buildings, cars, roads) draw the object with
its shadow. Lengths are in pixels of about half a metre.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.palette import SECOND

SIZE = 256
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
WHOLE = np.s_[:, :]
Window = tuple[slice, slice]

CLASS_IDS = {name: number for number, name in enumerate(SECOND.labels)}
VEGETATION, GROUND, TREE = "low vegetation", "non-vegetated ground surface", "tree"
WATER, BUILDING, PLAYGROUND = "water", "building", "playground"

TILES, BRICK, BROWN, GREY = (164, 96, 74), (140, 78, 64), (120, 92, 78), (136, 136, 138)
SLATE, STRAW = (98, 102, 110), (186, 178, 164)
ROOFS = np.float32([TILES, BRICK, BROWN, GREY, SLATE, STRAW])
HALLS = np.float32([(206, 208, 208), (108, 136, 168), (168, 170, 172), (188, 182, 168)])
CARS = np.float32([(228, 228, 228), (60, 62, 68), (150, 46, 42), (60, 84, 130), (176, 178, 182)])
WHITE = np.float32((232, 232, 226))


@dataclass(frozen=True)
class Tints:
    """The colours of a scene, (3,) float32 in 0..255; `roofs` (2, 3): a common and a rarer colour."""

    grass: np.ndarray
    soil: np.ndarray
    tree: np.ndarray
    water: np.ndarray
    asphalt: np.ndarray
    roofs: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Tints":
        """Draw the colours of a scene: lush to dry grass, pale to reddish soil, and so on."""

        def between(first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray:
            share = rng.random()
            mixed = np.array(first) * (1 - share) + np.array(second) * share
            return np.float32(mixed + rng.normal(0, 4, 3))

        return cls(
            grass=between((84, 118, 62), (134, 134, 84)),
            soil=between((186, 170, 142), (158, 122, 92)),
            tree=between((46, 78, 42), (70, 92, 50)),
            water=between((40, 62, 82), (56, 80, 66)),
            asphalt=between((98, 99, 102), (136, 134, 132)),
            roofs=ROOFS[rng.choice(len(ROOFS), 2, replace=False)],
        )


class Canvas:
    """The image `rgb` (H, W, 3) float32 in 0..255 and the class indices `classes` (H, W) uint8.

    `sun` (x, y) is the direction of shadows, of length 1.
    """

    def __init__(self, tints: Tints, sun: tuple[float, float]) -> None:
        self.tints, self.sun = tints, sun
        self.rgb = np.zeros((SIZE, SIZE, 3), np.float32)
        self.classes = np.zeros((SIZE, SIZE), np.uint8)

    def copy(self) -> "Canvas":
        """An independent copy."""
        other = Canvas(self.tints, self.sun)
        other.rgb, other.classes = self.rgb.copy(), self.classes.copy()
        return other

    def paint(
        self, mask: np.ndarray, colour: np.ndarray, name: str | None = None, at: Window = WHOLE
    ) -> None:
        """Blend `colour`, (3,) or (h, w, 3), into a window; the class is set where the mask exceeds 0.5."""
        self.rgb[at] += (colour.astype(np.float32, copy=False) - self.rgb[at]) * mask[..., None]
        if name is not None:
            self.classes[at][mask > 0.5] = CLASS_IDS[name]

    def shade(self, mask: np.ndarray, strength: float, at: Window = WHOLE) -> None:
        """Darken a window by a bluish shadow."""
        self.rgb[at] *= 1 - mask[..., None] * np.float32((strength, 0.95 * strength, 0.82 * strength))


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """Resize (h, w) float32 -> (size, size) with bicubic interpolation."""
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def fractal_noise(rng: np.random.Generator, *cells: float, roughness: float = 0.5) -> np.ndarray:
    """Noise (H, W) float32 of standard deviation 1 with features about `cells` pixels wide, largest first.

    Each scale has the weight cell ** roughness and is added on its own coarse grid, which is fast.
    """
    total = np.zeros((2, 2), np.float32)
    for cell in cells:
        count = max(2, round(SIZE / cell) + 1)
        scale = rng.standard_normal((count, count), dtype=np.float32)
        total = resized(total, count) + scale * cell**roughness
    noise = resized(total, SIZE)
    return noise / noise.std()


def window(x: float, y: float, radius: float) -> Window:
    """The part of the image within `radius` of a point, so that small objects are painted fast."""
    top, left = (int(np.clip(value - radius, 0, SIZE)) for value in (y, x))
    return np.s_[top : max(top, int(y + radius) + 2), left : max(left, int(x + radius) + 2)]


def rotated(x: float, y: float, angle: float, at: Window = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (along, across) of a window's pixels in a frame at (x, y), rotated by `angle` radians."""
    dx, dy = COLUMNS[at] - float(x), ROWS[at] - float(y)  # Python floats keep the pixels float32
    cos, sin = math.cos(angle), math.sin(angle)
    return dx * cos + dy * sin, dy * cos - dx * sin


def box(along: np.ndarray, across: np.ndarray, length: float, width: float) -> np.ndarray:
    """A mask of the rectangle |along| < length / 2, |across| < width / 2, with smooth edges."""
    inside = np.minimum(length / 2 - np.abs(along), width / 2 - np.abs(across))
    return np.clip(inside + 0.5, 0, 1)


def line(distance: np.ndarray, width: float) -> np.ndarray:
    """A mask of a line around distance 0, with smooth edges."""
    return np.clip(width / 2 - np.abs(distance) + 0.5, 0, 1)


def paint_meadow(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Grass with patches and tufts, sometimes with the furrows of a field."""
    growth, tufts = fractal_noise(rng, 60, 25, 10), fractal_noise(rng, 4, 2, 1, roughness=0.3)
    if rng.random() < 0.4:
        _, across = rotated(0, 0, rng.uniform(0, math.pi))
        growth = growth + 0.6 * np.sin(across * (2 * math.pi / rng.uniform(5, 9)))
    texture = np.stack([9 * growth + 6 * tufts, 6 * growth + 6.5 * tufts, 5 * growth + 5 * tufts], axis=-1)
    tint = canvas.tints.grass + rng.normal(0, 7) * np.float32((1, 0.4, 0.3))
    canvas.paint(mask, tint + texture, VEGETATION)


def paint_bareland(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Bare soil with shaded relief, grains and vehicle tracks."""
    relief = fractal_noise(rng, 50, 22, 9, 4)
    slope_y, slope_x = np.gradient(relief)
    light = np.clip(-40 * (slope_x * canvas.sun[0] + slope_y * canvas.sun[1]), -16, 16)
    grain = fractal_noise(rng, 3, 1, roughness=0.2)
    canvas.paint(mask, canvas.tints.soil + (7 * relief + light + 5 * grain)[..., None], GROUND)
    for _ in range(3):
        along, across = rotated(*rng.uniform(0, SIZE, 2), rng.uniform(0, math.pi))
        tracks = line(np.abs(across - 0.002 * along**2) - 2.2, 1.2)
        canvas.paint(mask * tracks * 0.35, canvas.tints.soil * 1.18)


def paint_water(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Dark, smooth water, paler at the shore."""
    depth = resized(mask.reshape(32, 8, 32, 8).mean((1, 3)), SIZE)
    ripple = fractal_noise(rng, 70, 30) * 2.5 + fractal_noise(rng, 2) * 0.6
    shallow = np.clip(1 - depth, 0, 1)[..., None]
    canvas.paint(mask, canvas.tints.water * (1 + 0.35 * shallow) + ripple[..., None], WATER)


def paint_pavement(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator, light: float = 1.0) -> None:
    """Asphalt, or concrete if `light` is above 1: grey with stains."""
    stains = fractal_noise(rng, 30, 8) * 3 + fractal_noise(rng, 1.2) * 2
    canvas.paint(mask, canvas.tints.asphalt * light + stains[..., None], GROUND)


def paint_tree(canvas: Canvas, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    """A tree crown, a shaded ball with lobes, and its shadow."""
    at = window(x, y, 2.3 * radius)
    dx, dy = COLUMNS[at] - x, ROWS[at] - y
    sun_x, sun_y = canvas.sun
    reach = 0.8 * radius
    canvas.shade(np.clip(radius - np.hypot(dx - sun_x * reach, dy - sun_y * reach), 0, 1), 0.45, at)
    lobes = 1 + 0.12 * np.sin(rng.integers(3, 6) * np.arctan2(dy, dx) + rng.uniform(0, 6))
    crown = np.clip(radius * lobes - np.hypot(dx, dy) + 0.5, 0, 1)
    leaves = rng.normal(0, 0.07) + rng.normal(0, 0.07, dx.shape)
    light = 1.05 - 0.42 * (dx * sun_x + dy * sun_y) / radius + leaves
    tint = canvas.tints.tree + rng.normal(0, 5) * np.float32((1, 0.6, 0.3))
    canvas.paint(crown, tint * light[..., None], TREE, at)


def paint_building(
    canvas: Canvas, x: float, y: float, angle: float, size: tuple[float, float], roof: np.ndarray, gable: bool
) -> None:
    """A roof of size (length, width) and its shadow: a gable roof, or a flat roof with seams."""
    length, width = size
    height = 5.0 if gable else 7.0
    at = window(x, y, length / 2 + width / 2 + height)
    sun_x, sun_y = canvas.sun
    for share in (0.25, 0.5, 0.75, 1.0):
        step = height * share
        canvas.shade(box(*rotated(x + sun_x * step, y + sun_y * step, angle, at), length, width), 0.2, at)
    along, across = rotated(x, y, angle, at)
    if gable:
        away = sun_y * math.cos(angle) - sun_x * math.sin(angle)  # 1: the half across > 0 is in shade
        light = 1 - 0.2 * away * np.sign(across) + 0.12 * line(across, 1.0)
    else:
        seams = np.sign(np.sin(along * 1.2))
        light = 1.12 - 0.12 * box(along, across, length - 3, width - 3) + 0.05 * seams
    canvas.paint(box(along, across, length, width), roof * light[..., None], BUILDING, at)


def paint_car(canvas: Canvas, x: float, y: float, angle: float, rng: np.random.Generator) -> None:
    """A car of 6 by 3 pixels with darker windows. The class of the ground is kept."""
    at = window(x, y, 6)
    along, across = rotated(x, y, angle, at)
    canvas.shade(box(along - 0.7, across - 0.7, 7.4, 3.6), 0.35, at)
    windows = line(np.abs(along) - 1.4, 1.0)[..., None]
    canvas.paint(box(along, across, 6.4, 3.0), CARS[rng.integers(len(CARS))] * (1 - 0.35 * windows), at=at)


def paint_roads(
    canvas: Canvas, roads: list[tuple[np.ndarray, np.ndarray, float]], rng: np.random.Generator
) -> None:
    """Roads (along, across, width) around across = 0, with kerbs, and dashes except at crossings."""
    for extra, light in ((3, 1.3), (0, 1.0)):
        masks = [line(across, width + extra) for _, across, width in roads]
        paint_pavement(canvas, np.max(masks, axis=0), rng, light)
    alone = np.sum(masks, axis=0) < 1.5
    for along, across, _ in roads:
        canvas.paint(0.75 * line(across, 0.9) * (np.mod(along, 11) < 6) * alone, WHITE)
