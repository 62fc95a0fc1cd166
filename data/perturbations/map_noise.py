"""Errors of semantic maps: functions from the two maps of a pair, (2, 3, H, W) uint8, to altered ones.

A region is a 4-connected set of pixels of one class in one map. A changed area is a 4-connected set of pixels
with a class in at least one of the two maps. `classes` holds the classes that the data set's maps have at
each date, and their palette; no other class is painted.
"""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from data.palette import MapClasses

SMALLEST, LARGEST = 1 / 16, 1 / 5  # side lengths of an invented area, as fractions of the image's


def connected(values: np.ndarray) -> np.ndarray:
    """Number the 4-connected regions of equal value: (H, W) -> (H, W) int.

    Pixels of value 0 are background and get 0. Regions are numbered 1, 2, ... in the order of their first
    pixels.
    """
    rows, columns = values.shape
    filled = values != 0
    # A grid of pixels and the links between them, so that one call labels the regions of all values.
    grid = np.zeros((2 * rows - 1, 2 * columns - 1), dtype=bool)
    grid[::2, ::2] = filled
    grid[::2, 1::2] = filled[:, 1:] & (values[:, 1:] == values[:, :-1])
    grid[1::2, ::2] = filled[1:] & (values[1:] == values[:-1])
    labels, _ = ndimage.label(grid)
    return labels[::2, ::2]


def _codes(semantic: np.ndarray) -> np.ndarray:
    """One integer per pixel, 0xRRGGBB: (..., 3, H, W) uint8 -> (..., H, W) int32; void is 0."""
    red, green, blue = np.moveaxis(semantic.astype(np.int32), -3, 0)
    return red << 16 | green << 8 | blue


def confusion(maps: np.ndarray, share: float, rng: Generator, classes: MapClasses) -> np.ndarray:
    """Give each region another class of its date with probability `share`, independently in the two maps.

    A region keeps its class if its date has no other class.
    """
    altered = maps.copy()
    for date, semantic in enumerate(maps):
        mask = semantic.any(0)
        regions = connected(_codes(semantic))[mask]
        _, first_pixel, region_index = np.unique(regions, return_index=True, return_inverse=True)
        colours = semantic[:, mask][:, first_pixel]  # (3, regions)
        for index, colour in enumerate(colours.T.copy()):
            wrong, draw = _another(colour, date, classes, rng), rng.random()
            if draw < share:
                colours[:, index] = wrong
        altered[date][:, mask] = colours[:, region_index]
    return altered


def _another(colour: np.ndarray, date: int, classes: MapClasses, rng: Generator) -> np.ndarray:
    """The colour (3,) uint8 of a random other class of a date, as bright as `colour`; `colour` if there is
    none."""
    palette = classes.palette
    as_bright = palette.brightened if tuple(colour.tolist()) in palette.brightened else palette.prepared
    colours = [np.uint8(as_bright[index - 1]) for index in classes[date]]
    others = [other for other in colours if (other != colour).any()]
    return others[rng.integers(len(others))] if others else colour


def borders(maps: np.ndarray, pixels: int, rng: Generator, _: MapClasses) -> np.ndarray:
    """Dilate or erode all areas by `pixels`, with equal probability.

    A void pixel that two classes grow into gets the one whose colour has the larger code.
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
    """Maximum filter over squares of 2 * pixels + 1, zero-padded: (..., H, W) -> (..., H, W)."""
    for axis in (-2, -1):
        margins = [(0, 0)] * values.ndim
        margins[axis] = (pixels, pixels)
        values = np.moveaxis(np.pad(values, margins), axis, 0)
        width, target = 1, 2 * pixels + 1  # values[i] is the maximum over `width` values from i on
        while width < target:
            step = min(width, target - width)
            values = np.maximum(values[:-step], values[step:])
            width += step
        values = np.moveaxis(values, 0, axis)
    return values


def missing(maps: np.ndarray, share: float, rng: Generator, _: MapClasses) -> np.ndarray:
    """Make each changed area void in both maps with probability `share`."""
    changed = maps.any(axis=(0, 1))
    areas = connected(changed)
    labels = np.unique(areas[changed])
    removed = labels[rng.random(len(labels)) < share]
    return maps * ~np.isin(areas, removed)


def invented(maps: np.ndarray, count: int, rng: Generator, classes: MapClasses) -> np.ndarray:
    """Paint `count` ellipses where both maps are void: a class of the first date, another of the second.

    The classes are equal only if both dates have the same single class. A date without classes stays void.
    """
    altered, void = maps.copy(), ~maps.any(axis=(0, 1))
    rows, columns = (np.arange(side) / side for side in void.shape)
    for _ in range(count):
        middle, size = rng.random(2), rng.uniform(SMALLEST, LARGEST, 2)
        inside = ((rows - middle[0]) / size[0])[:, None] ** 2 + ((columns - middle[1]) / size[1]) ** 2 < 0.25
        painted = classes.palette.paint(np.array(_two_classes(classes, rng)).reshape(2, 1, 1))
        altered[:, :, inside & void] = painted[..., 0]
    return altered


def _two_classes(classes: MapClasses, rng: Generator) -> tuple[int, int]:
    """A class of each date, different ones if possible; 0 (void) for a date that has none."""
    before, after = (rng.permutation(list(of_date) or [0]) for of_date in (classes.before, classes.after))
    different = [index for index in after if index != before[0]]
    if different:
        return int(before[0]), int(different[0])
    return int(before[-1]), int(after[0])


def void(maps: np.ndarray, share: float, rng: Generator, _: MapClasses) -> np.ndarray:
    """Make both maps void with probability `share`."""
    return maps * (rng.random() >= share)
