"""Geometric perturbations, which move the image and the map of a date together.

Border fill: images are mirrored (a black wedge would look like a change), maps become void (nothing is
annotated there).
"""

import math

import numpy as np
from numpy.random import Generator
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv


def corners_of(image: Tensor) -> np.ndarray:
    """The corners (x, y) of an image: top left, top right, bottom right, bottom left; (4, 2)."""
    height, width = image.shape[-2:]
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=float)


def move(image: Tensor, semantic: Tensor, corners: np.ndarray) -> tuple[Tensor, Tensor]:
    """Warp image and map (3, H, W) uint8 so that their corners move to `corners` (4, 2), in pixels.

    Applies the projective transform given by the corners: bilinear for the image, nearest-neighbour for the
    map, which keeps its colours.
    """
    start = corners_of(image)
    margin = min(1 + math.ceil(np.abs(corners - start).max()), *(side - 1 for side in image.shape[-2:]))
    padded = tv.pad(image, [margin] * 4, padding_mode="reflect")
    inner = tv.perspective(padded, (start + margin).tolist(), (corners + margin).tolist())
    moved = tv.crop(inner, margin, margin, *image.shape[-2:])
    nearest = InterpolationMode.NEAREST  # fills with 0
    return moved, tv.perspective(semantic, start.tolist(), corners.tolist(), interpolation=nearest)


def viewpoint(
    image: Tensor, semantic: Tensor, level: tuple[float, float], rng: Generator
) -> tuple[Tensor, Tensor]:
    """Change of viewpoint: a rotation, then an independent shift of each corner.

    level: (length of the corner shifts as a fraction of the side, degrees).
    """
    share, degrees = level
    start = corners_of(image)
    centre, side = start[2] / 2, start[2].mean()
    angle = math.radians(degrees) * rng.choice((-1, 1))
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    directions = rng.uniform(0, 2 * math.pi, 4)
    shifts = share * side * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    return move(image, semantic, (start - centre) @ rotation + centre + shifts)


def registration(
    image: Tensor, semantic: Tensor, level: tuple[float, float], rng: Generator
) -> tuple[Tensor, Tensor]:
    """Registration error: a shift in a random direction and a difference in scale.

    level: (shift in pixels, difference in scale in per cent).
    """
    shift, per_cent = level
    start = corners_of(image)
    centre = start[2] / 2
    direction, scale = rng.uniform(0, 2 * math.pi), 1 + rng.choice((-1, 1)) * per_cent / 100
    shifted = centre + shift * np.array([math.cos(direction), math.sin(direction)])
    return move(image, semantic, (start - centre) * scale + shifted)
