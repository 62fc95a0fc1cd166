"""Mistakes of semantic maps: both maps of a pair (2, 3, H, W) uint8 -> the same. Images stay as they are.

A changed area is what either map gives a class to; a region is a part of one map in one class. Both hang
together over pixels' sides.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator

from data.palette import CLASSES

BASE = np.array([row.base for row in CLASSES[1:]], dtype=np.uint8)
BRIGHTENED = np.array([row.brightened for row in CLASSES[1:]], dtype=np.uint8)
SMALLEST, LARGEST = 1 / 16, 1 / 5  # sides of an invented area, as shares of the frame's


def connected(values: np.ndarray) -> np.ndarray:
    """Number the parts of equal value that hang together over pixels' sides: (H, W) -> (H, W) int.

    Each part has the number of its first pixel; pixels of 0, which is void, keep their own. Neighbours hook
    each other's trees onto the smaller root, and every pixel then looks one root further, until nothing moves
    (Shiloach and Vishkin).
    """
    places = np.arange(values.size).reshape(values.shape)
    beside = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] != 0)
    below = (values[1:] == values[:-1]) & (values[1:] != 0)
    one = np.concatenate([places[:, 1:][beside], places[1:][below]])
    other = np.concatenate([places[:, :-1][beside], places[:-1][below]])
    roots, before = places.ravel().copy(), None
    while not np.array_equal(roots, before):
        before = roots.copy()
        smaller = np.minimum(roots[one], roots[other])
        np.minimum.at(roots, before[one], smaller)
        np.minimum.at(roots, before[other], smaller)
        roots = roots[roots]
    return roots.reshape(values.shape)


def _codes(semantic: np.ndarray) -> np.ndarray:
    """One integer a pixel, 0xRRGGBB: (..., 3, H, W) uint8 -> (..., H, W) int32; void is 0."""
    red, green, blue = np.moveaxis(semantic.astype(np.int32), -3, 0)
    return red << 16 | green << 8 | blue


def confusion(maps: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Each region is taken for another class with this probability, in each map by itself."""
    struck = maps.copy()
    for date, semantic in enumerate(maps):
        regions = connected(_codes(semantic))
        for place in np.unique(regions[semantic.any(0)]):
            colour = semantic[:, place // regions.shape[1], place % regions.shape[1]]
            wrong, way = _another(colour, rng), rng.random()
            if way < share:
                struck[date][:, regions == place] = wrong[:, None]
    return struck


def _another(colour: np.ndarray, rng: Generator) -> np.ndarray:
    """Another class's colour, in the brightness that `colour` has: (3,) uint8 -> the same."""
    palette = BRIGHTENED if (colour == BRIGHTENED).all(1).any() else BASE
    return rng.permutation(palette[(palette != colour).any(1)])[0]


def borders(maps: np.ndarray, pixels: int, rng: Generator) -> np.ndarray:
    """Every class's border is off by so many pixels: all areas grow into the void, or all shrink.

    A pixel that two classes grow into goes to the one whose colour has the larger code.
    """
    grow = rng.random() < 0.5
    codes = torch.from_numpy(_codes(maps)).double()
    void = codes == 0

    def largest_near(values: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(values, 2 * pixels + 1, stride=1, padding=pixels)

    near = largest_near(codes if grow else void.double())
    codes = torch.where(void, near, codes) if grow else codes * (near == 0)
    codes = codes.long().numpy()
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)


def missing(maps: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Each changed area is missed with this probability: void in both maps."""
    changed = maps.any(axis=(0, 1))
    areas = connected(changed)
    places = np.unique(areas[changed])
    lost = places[rng.random(len(places)) < share]
    return maps * ~np.isin(areas, lost)


def invented(maps: np.ndarray, count: int, rng: Generator) -> np.ndarray:
    """So many ellipses where both maps are void, of two classes: the first date's and the second's."""
    struck, void = maps.copy(), ~maps.any(axis=(0, 1))
    rows, columns = (np.arange(side) / side for side in void.shape)
    for _ in range(count):
        middle, size = rng.random(2), rng.uniform(SMALLEST, LARGEST, 2)
        inside = ((rows - middle[0]) / size[0])[:, None] ** 2 + ((columns - middle[1]) / size[1]) ** 2 < 0.25
        struck[:, :, inside & void] = rng.permutation(BASE)[:2, :, None]
    return struck


def void(maps: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Both maps are void, for this share of the pairs."""
    return maps * (rng.random() >= share)
