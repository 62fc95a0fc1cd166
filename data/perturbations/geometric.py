"""Where a date's pixels lie: its image and its map move together.

What comes into the frame: in the image what lies inside of the edge, mirrored, for a black wedge would look
like a change; in the map void, for nobody has drawn it.
"""

import math

import numpy as np
from numpy.random import Generator
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv


def corners_of(image: Tensor) -> np.ndarray:
    """Corners of a frame (..., H, W) as (x, y): top left, top right, bottom right, bottom left; (4, 2)."""
    height, width = image.shape[-2:]
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=float)


def move(image: Tensor, semantic: Tensor, corners: np.ndarray) -> tuple[Tensor, Tensor]:
    """Image and map (3, H, W) uint8 with the frame's corners moved to `corners` (4, 2), in pixels.

    The one projective map that moves them so: the image bilinear, the map by the nearest pixel, which invents
    no colour.
    """
    start = corners_of(image)
    margin = min(1 + math.ceil(np.abs(corners - start).max()), *(side - 1 for side in image.shape[-2:]))
    padded = tv.pad(image, [margin] * 4, padding_mode="reflect")
    inner = tv.perspective(padded, (start + margin).tolist(), (corners + margin).tolist())
    moved = tv.crop(inner, margin, margin, *image.shape[-2:])
    nearest = InterpolationMode.NEAREST  # what comes into the frame is 0
    return moved, tv.perspective(semantic, start.tolist(), corners.tolist(), interpolation=nearest)


def viewpoint(
    image: Tensor, semantic: Tensor, level: tuple[float, float], rng: Generator
) -> tuple[Tensor, Tensor]:
    """Another angle of view: rotated by so many degrees, then each corner moved its own way.

    level: (length of a corner's move as a share of the side, degrees).
    """
    share, degrees = level
    start = corners_of(image)
    centre, side = start[2] / 2, start[2].mean()
    angle = math.radians(degrees) * rng.choice((-1, 1))
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    ways = rng.uniform(0, 2 * math.pi, 4)
    own = share * side * np.stack([np.cos(ways), np.sin(ways)], axis=1)
    return move(image, semantic, (start - centre) @ rotation + centre + own)


def registration(
    image: Tensor, semantic: Tensor, level: tuple[float, float], rng: Generator
) -> tuple[Tensor, Tensor]:
    """The frames do not fit: shifted in any direction, and larger or smaller.

    level: (shift in pixels, difference in scale in per cent).
    """
    shift, per_cent = level
    start = corners_of(image)
    centre = start[2] / 2
    way, scale = rng.uniform(0, 2 * math.pi), 1 + rng.choice((-1, 1)) * per_cent / 100
    shifted = centre + shift * np.array([math.cos(way), math.sin(way)])
    return move(image, semantic, (start - centre) * scale + shifted)
