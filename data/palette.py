"""The colours of semantic maps: the classes of SECOND, and LEVIR-MCI's labels painted as these classes."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data.errors import UserError

Colour = tuple[int, int, int]
MapClasses = tuple[tuple[int, ...], tuple[int, ...]]  # class indices of a data set, before and after

VOID: Colour = (0, 0, 0)


class MapClass(NamedTuple):
    """A class of SECOND's maps: its colour, and its colour in maps whose brightness was raised by 80."""

    name: str
    base: Colour
    brightened: Colour


CLASSES = (
    MapClass("void", (255, 255, 255), (255, 255, 255)),
    MapClass("low vegetation", (0, 128, 0), (80, 208, 80)),
    MapClass("non-vegetated ground surface", (128, 128, 128), (208, 208, 208)),
    MapClass("tree", (0, 255, 0), (80, 255, 80)),
    MapClass("water", (0, 0, 255), (80, 80, 255)),
    MapClass("building", (128, 0, 0), (208, 80, 80)),
    MapClass("playground", (255, 0, 0), (255, 80, 80)),
)

GROUND = 2  # index of the only class whose colours are grey
FEW, LOW = 16, 64  # a greyscale map with at most FEW values, or with values below LOW, holds class indices

MASK_CLASSES = tuple(row.name for row in CLASSES[1:])  # the classes that a mask can stand for

# LEVIR-MCI's label values in SECOND's colours: background is void, roads are ground surface.
LABEL_COLOURS: dict[int, Colour] = {0: VOID, 128: (128, 128, 128), 255: (128, 0, 0)}


def colour_codes(image: np.ndarray) -> np.ndarray:
    """One integer per pixel, 0xRRGGBB: (..., 3) uint8 -> (...) uint32."""
    codes = image[..., 0].astype(np.uint32)
    for channel in (1, 2):
        codes <<= 8
        codes |= image[..., channel]
    return codes


_CLASS_OF = np.zeros(1 << 24, dtype=np.uint8)  # by 0xRRGGBB
for _index, _row in enumerate(CLASSES):
    _CLASS_OF[colour_codes(np.array(_row[1:], dtype=np.uint8))] = _index
_PAINT = np.array([VOID, *(row.base for row in CLASSES[1:])], dtype=np.uint8)


def void_to_black(image: np.ndarray) -> np.ndarray:
    """Replace exact white by black, the prepared colour of void: (H, W, 3) uint8 -> (H, W, 3) uint8."""
    black = image.copy()
    black[colour_codes(image) == 0xFFFFFF] = VOID
    return black


def map_colours(image: np.ndarray, mask_class: str | None = None) -> np.ndarray:
    """Convert a map to the palette's colours with black void: (H, W, 3) uint8 -> (H, W, 3) uint8.

    In maps with colours, black and white are both void: SECOND's maps use white, prepared maps black. A
    greyscale map of 0 and 255 (and some values between them, as left by JPEG) or of 0 and 1 is a mask and is
    painted as `mask_class`, one of MASK_CLASSES. An all-white map is a mask if `mask_class` is given, else
    void.

    Raises UserError for a mask without `mask_class`, for class indices, and for LEVIR-MCI's labels.
    """
    classes = _CLASS_OF[colour_codes(image)]
    if ((classes != 0) & (classes != GROUND)).any() or (image != image[..., :1]).any():
        return void_to_black(image)
    grey = image[..., 0]
    values = np.unique(grey).tolist()
    if values == [0, 128, 255]:
        raise UserError(
            "holds 0, 128 and 255 as LEVIR-MCI's labels do: paint 255 as a building, (128, 0, 0), or use the "
            "layout of LEVIR-MCI, with a folder label/"
        )
    if is_mask(grey, values, all_white=mask_class is not None):
        if mask_class is None:
            raise UserError(
                f"is a mask of {values[0]} and {values[-1]}, not a map in the palette's colours: give its "
                f"class with --mask_class ({', '.join(MASK_CLASSES)})"
            )
        mask = grey > values[-1] // 2
        return paint_classes(mask * (1 + MASK_CLASSES.index(mask_class))).transpose(1, 2, 0)
    unknown = [value for value in values if value not in (0, 255)]
    if unknown and not classes.any() and (len(values) <= FEW or values[-1] < LOW):
        raise UserError(
            f"holds the greyscale values {unknown[:5]}, which look like class indices: paint each class in "
            "its colour (docs/data.md has the table)"
        )
    return void_to_black(image)


def is_mask(grey: np.ndarray, values: list[int], all_white: bool) -> bool:
    """Whether a greyscale map (H, W) with the sorted distinct `values` is a mask.

    A mask has only 0 and 1, or both 0 and 255 in more than half of its pixels. all_white: a map of only 1
    or only 255 is a mask, too.
    """
    if values == [0, 1] or (all_white and values in ([1], [255])):
        return True
    return values[0] == 0 and values[-1] == 255 and np.isin(grey, (0, 255)).mean() > 0.5


def unknown_colours(image: np.ndarray, most: int | None = None) -> dict[Colour, int]:
    """The colours of a map (H, W, 3) uint8 that no class has in either brightness, with pixel counts.

    most: return only so many, the most common first; None: all.
    """
    codes = colour_codes(image)
    colours, pixels = np.unique(codes[_unknown(codes)], return_counts=True)
    if most is not None:
        first = np.argsort(-pixels, kind="stable")[:most]
        colours, pixels = colours[first], pixels[first]
    return {
        (code >> 16, code >> 8 & 255, code & 255): count
        for code, count in zip(colours.tolist(), pixels.tolist(), strict=True)
    }


def unknown_share(image: np.ndarray) -> float:
    """The fraction of pixels of a map (H, W, 3) uint8 whose colour no class has."""
    return float(_unknown(colour_codes(image)).mean())


def has_class(image: np.ndarray) -> bool:
    """Whether a map (H, W, 3) uint8 has a pixel in a class's colour."""
    return bool(_CLASS_OF[colour_codes(image)].any())


def _unknown(codes: np.ndarray) -> np.ndarray:
    """Whether colours 0xRRGGBB are neither those of a class nor black nor white."""
    return (_CLASS_OF[codes] == 0) & (codes != 0) & (codes != 0xFFFFFF)


def map_classes(maps: np.ndarray) -> np.ndarray:
    """The class indices of maps, in either brightness: (..., 3, H, W) uint8 -> (..., H, W) uint8.

    Black, white and colours of no class are void; the nearest class would be a guess.
    """
    return _CLASS_OF[colour_codes(np.moveaxis(maps, -3, -1))]


def classes_by_date(maps: Iterable[np.ndarray]) -> MapClasses:
    """The class indices, without void, that pairs of maps (2, 3, H, W) uint8 have at each date.

    Stops reading as soon as both dates have all classes.
    """
    present = np.zeros((2, len(CLASSES)), dtype=bool)
    present[:, 0] = True
    for pair in maps:
        for date in np.flatnonzero(pair.any(axis=(1, 2, 3))):
            present[date, map_classes(pair[date])] = True
        if present.all():
            break
    before, after = (tuple((np.flatnonzero(row[1:]) + 1).tolist()) for row in present)
    return before, after


def paint_classes(classes: np.ndarray) -> np.ndarray:
    """Paint class indices in the base colours, void black: (..., H, W) -> (..., 3, H, W) uint8."""
    return np.moveaxis(_PAINT[classes], -1, -3)


def colour_label(label: np.ndarray) -> np.ndarray:
    """Paint a LEVIR-MCI label (H, W) as a map (H, W, 3) uint8; UserError on values but 0, 128 and 255."""
    values = np.unique(label).tolist()
    unknown = [value for value in values if value not in LABEL_COLOURS]
    if unknown:
        raise UserError(
            f"a label must hold only 0 (background), 128 (road) and 255 (building), got {unknown[:5]}"
        )
    colours = np.zeros((256, 3), dtype=np.uint8)
    for value in values:
        colours[value] = LABEL_COLOURS[value]
    return colours[label]
