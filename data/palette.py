"""The colours of semantic maps: SECOND's classes, and LEVIR-MCI's labels painted in them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data.errors import UserError

Colour = tuple[int, int, int]
MapClasses = tuple[tuple[int, ...], tuple[int, ...]]  # of a data set, before and after: places in CLASSES

VOID: Colour = (0, 0, 0)


class MapClass(NamedTuple):
    """A class of SECOND's maps: its colour, and its colour in rows whose brightness was raised by 80."""

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

GROUND = 2  # place in CLASSES of the one class whose colours are grey
FEW, LOW = 16, 64  # a greyscale map of at most so many values, or of values below, holds class numbers

MASK_CLASSES = tuple(row.name for row in CLASSES[1:])  # what a mask can show

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
    """Exact white becomes black, the colour of void after preparation; (H, W, 3) uint8 -> the same."""
    black = image.copy()
    black[colour_codes(image) == 0xFFFFFF] = VOID
    return black


def map_colours(image: np.ndarray, mask_class: str | None = None) -> np.ndarray:
    """The pixels of a map's file in the palette's colours, void black; (H, W, 3) uint8 -> the same.

    In a map with colours, black and white are both void: SECOND's maps are white there, prepared ones black.
    A greyscale map of 0 and 255 (and some values between them, as JPEG leaves them) or of 0 and 1 is a mask
    and is painted as `mask_class`, a name of MASK_CLASSES. Where `mask_class` is given, so is a wholly white
    map, which is void otherwise.

    UserError for a mask where `mask_class` is None, for class numbers, and for LEVIR-MCI's labels.
    """
    classes = _CLASS_OF[colour_codes(image)]
    if ((classes != 0) & (classes != GROUND)).any() or (image != image[..., :1]).any():
        return void_to_black(image)
    grey = image[..., 0]
    values = np.unique(grey).tolist()
    if values == [0, 128, 255]:
        raise UserError(
            "holds 0, 128 and 255 as LEVIR-MCI's labels do: paint 255 as a building, (128, 0, 0), or lay the "
            "data set out as LEVIR-MCI, with a folder label/"
        )
    if is_mask(grey, values, wholly_white=mask_class is not None):
        if mask_class is None:
            raise UserError(
                f"is a mask of {values[0]} and {values[-1]}, no map in the palette's colours: name the class "
                f"that it shows with --mask_class ({', '.join(MASK_CLASSES)})"
            )
        shown = grey > values[-1] // 2
        return paint_classes(shown * (1 + MASK_CLASSES.index(mask_class))).transpose(1, 2, 0)
    strangers = [value for value in values if value not in (0, 255)]
    if strangers and not classes.any() and (len(values) <= FEW or values[-1] < LOW):
        raise UserError(
            f"holds the greyscale values {strangers[:5]}, which look like class numbers: paint each class in "
            "its colour (README.md has the table)"
        )
    return void_to_black(image)


def is_mask(grey: np.ndarray, values: list[int], wholly_white: bool) -> bool:
    """Whether a greyscale map (H, W) of the sorted `values` is a mask.

    It has 0 and 1 alone, or both 0 and 255 and these in more than half of its pixels. wholly_white: count a
    map of 1 or 255 alone, too.
    """
    if values == [0, 1] or (wholly_white and values in ([1], [255])):
        return True
    return values[0] == 0 and values[-1] == 255 and np.isin(grey, (0, 255)).mean() > 0.5


def unknown_colours(image: np.ndarray, most: int | None = None) -> dict[Colour, int]:
    """The colours of a map (H, W, 3) uint8 that no class has in either brightness, and their pixels.

    most: how many of them, the commonest first; None: all.
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
    """The share of a map's pixels whose colour no class has; (H, W, 3) uint8."""
    return float(_unknown(colour_codes(image)).mean())


def has_class(image: np.ndarray) -> bool:
    """Whether a map (H, W, 3) uint8 has a pixel in a class's colour."""
    return bool(_CLASS_OF[colour_codes(image)].any())


def _unknown(codes: np.ndarray) -> np.ndarray:
    """Where colours, 0xRRGGBB, are neither a class's nor black nor white."""
    return (_CLASS_OF[codes] == 0) & (codes != 0) & (codes != 0xFFFFFF)


def map_classes(maps: np.ndarray) -> np.ndarray:
    """Places in CLASSES of the colours of maps, in either brightness: (..., 3, H, W) uint8 -> (..., H, W)
    uint8.

    Black and white are void, and so is a colour that no class has: the nearest class would be a guess.
    """
    return _CLASS_OF[colour_codes(np.moveaxis(maps, -3, -1))]


def classes_by_date(maps: Iterable[np.ndarray]) -> MapClasses:
    """The classes that pairs of maps (2, 3, H, W) uint8 have at each date, without void.

    Stops reading where both dates have all.
    """
    has = np.zeros((2, len(CLASSES)), dtype=bool)
    has[:, 0] = True
    for pair in maps:
        for date in np.flatnonzero(pair.any(axis=(1, 2, 3))):
            has[date, map_classes(pair[date])] = True
        if has.all():
            break
    before, after = (tuple((np.flatnonzero(row[1:]) + 1).tolist()) for row in has)
    return before, after


def paint_classes(classes: np.ndarray) -> np.ndarray:
    """Maps in the classes' base colours, void black: (..., H, W) -> (..., 3, H, W) uint8."""
    return np.moveaxis(_PAINT[classes], -1, -3)


def colour_label(label: np.ndarray) -> np.ndarray:
    """LEVIR-MCI's label (H, W) of 0, 128 and 255 as a map (H, W, 3) uint8; UserError on any other value."""
    values = np.unique(label).tolist()
    strangers = [value for value in values if value not in LABEL_COLOURS]
    if strangers:
        raise UserError(
            f"a label holds only 0 (background), 128 (road) and 255 (building), got {strangers[:5]}"
        )
    colours = np.zeros((256, 3), dtype=np.uint8)
    for value in values:
        colours[value] = LABEL_COLOURS[value]
    return colours[label]
