"""Errors of semantic maps: functions from the two maps of a pair, (2, 3, H, W) uint8, to altered ones.

A changed area is a connected part where at least one map has a class, a region a connected part of one map
in one class; pixels that share a side are connected. `classes` are those that the data set's maps have at
each date: an error paints no other.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from data.palette import CLASSES, VOID, MapClasses

BASE = np.array([VOID, *(row.base for row in CLASSES[1:])], dtype=np.uint8)  # by place in CLASSES
BRIGHTENED = np.array([VOID, *(row.brightened for row in CLASSES[1:])], dtype=np.uint8)
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


def confusion(maps: np.ndarray, share: float, rng: Generator, classes: MapClasses) -> np.ndarray:
    """Each region gets another class of its date with probability `share`, independently in the two maps.

    A region stays as it is where its date has no other class.
    """
    altered = maps.copy()
    for date, semantic in enumerate(maps):
        regions = connected(_codes(semantic))
        drawn = semantic.any(0)
        places, region_of = np.unique(regions[drawn], return_inverse=True)
        colours = semantic[:, places // regions.shape[1], places % regions.shape[1]]  # (3, regions)
        for number, colour in enumerate(colours.T.copy()):
            wrong, draw = _another(colour, classes[date], rng), rng.random()
            if draw < share:
                colours[:, number] = wrong
        altered[date][:, drawn] = colours[:, region_of]
    return altered


def _another(colour: np.ndarray, classes: Sequence[int], rng: Generator) -> np.ndarray:
    """The colour of another one of `classes`, as bright as `colour`, or `colour` if there is none; (3,)
    uint8."""
    palette = BRIGHTENED if (colour == BRIGHTENED).all(1).any() else BASE
    others = [palette[place] for place in classes if (palette[place] != colour).any()]
    return others[rng.integers(len(others))] if others else colour


def borders(maps: np.ndarray, pixels: int, rng: Generator, _: MapClasses) -> np.ndarray:
    """Every class's border is off by so many pixels: all areas grow into the void, or all shrink.

    A pixel that two classes grow into goes to the one whose colour has the larger code.
    """
    grow = rng.random() < 0.5
    codes = _codes(maps)
    void = codes == 0
    if grow:
        codes = np.where(void, _largest_near(codes, pixels), codes)
    else:
        codes = codes * ~_largest_near(void, pixels)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)


def _largest_near(values: np.ndarray, pixels: int) -> np.ndarray:
    """The largest of the values, from 0 up, at most so many rows and columns away: (..., H, W) -> such."""
    for axis in (-2, -1):
        margins = [(0, 0)] * values.ndim
        margins[axis] = (pixels, pixels)
        values = np.moveaxis(np.pad(values, margins), axis, 0)
        width, whole = 1, 2 * pixels + 1  # values[i] is the largest of `width` values from i on
        while width < whole:
            step = min(width, whole - width)
            values = np.maximum(values[:-step], values[step:])
            width += step
        values = np.moveaxis(values, 0, axis)
    return values


def missing(maps: np.ndarray, share: float, rng: Generator, _: MapClasses) -> np.ndarray:
    """Each changed area is missed with this probability: void in both maps."""
    changed = maps.any(axis=(0, 1))
    areas = connected(changed)
    places = np.unique(areas[changed])
    lost = places[rng.random(len(places)) < share]
    return maps * ~np.isin(areas, lost)


def invented(maps: np.ndarray, count: int, rng: Generator, classes: MapClasses) -> np.ndarray:
    """Paint `count` ellipses where both maps are void: a class of the first date, another of the second.

    The classes are equal only if the dates have the same single class. A date without classes stays void.
    """
    altered, void = maps.copy(), ~maps.any(axis=(0, 1))
    rows, columns = (np.arange(side) / side for side in void.shape)
    for _ in range(count):
        middle, size = rng.random(2), rng.uniform(SMALLEST, LARGEST, 2)
        inside = ((rows - middle[0]) / size[0])[:, None] ** 2 + ((columns - middle[1]) / size[1]) ** 2 < 0.25
        altered[:, :, inside & void] = BASE[list(_two_classes(classes, rng))][:, :, None]
    return altered


def _two_classes(classes: MapClasses, rng: Generator) -> tuple[int, int]:
    """A class of each date, two different ones if possible; 0 (void) for a date that has none."""
    before, after = (rng.permutation(list(own) or [0]) for own in classes)
    different = [place for place in after if place != before[0]]
    return (int(before[0]), int(different[0])) if different else (int(before[-1]), int(after[0]))


def void(maps: np.ndarray, share: float, rng: Generator, _: MapClasses) -> np.ndarray:
    """Both maps are void, for this share of the pairs."""
    return maps * (rng.random() >= share)
