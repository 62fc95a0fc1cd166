"""What greyscale maps show: class indices, a mask of one class, or greys that are colours of classes."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from data.errors import UserError
from data.images import DEEP_MODES
from data.maps.colours import NEAR
from data.maps.pixels import LOSSY, read_pixels
from data.maps.settings import MapSettings
from data.palette import SECOND, VOID, WHITE, Palette

INDICES, MASK = "class indices", "mask"  # kinds of maps
FEW, LOW = 16, 64  # a greyscale map with at most FEW values, or with values below LOW, holds class indices
PHOTO_VALUES, FLAT_SHARE = 32, 0.25  # a photo has more values and fewer equal neighbouring pixels
LABEL_VALUES = [0, 128, 255]  # of LEVIR-MCI


def grey_classes(grey: np.ndarray, settings: MapSettings, lossy: bool) -> tuple[np.ndarray, str] | None:
    """The class indices (H, W) of a greyscale map and its kind; None if its greys are colours."""
    palette, mask_class = settings.palette, settings.mask_class
    values = np.unique(grey).tolist()
    if not lossy and mask_class is None and _are_indices(grey, values, settings):
        return np.where(grey == 255, 0, grey), INDICES
    if values == LABEL_VALUES and (palette == SECOND or not _are_colours(values, palette)):
        raise UserError(_label_message(settings))
    if _are_colours(values, palette):
        return None
    one_class = len(palette.names) == 1
    if is_mask(grey, values, all_white=mask_class is not None or (one_class and values == [1])):
        return _mask_index(values, settings) * (grey > values[-1] // 2), MASK
    if values == [1]:
        raise UserError(
            "holds only the value 1, a mask or a class index: name the class with --mask_class "
            f"({palette.listed()})"
        )
    few = len(values) <= FEW or values[-1] < LOW
    void = {red for red, _, _ in palette.void} | {0}
    if few and not void.issuperset(values) and not _near_grey(values, palette):
        raise UserError(_index_message([value for value in values if value not in (0, 255)], settings, lossy))
    return None


def _near_grey(values: list[int], palette: Palette) -> bool:
    """Whether a greyscale map with these values has a grey of the palette, or one close to it, but black."""
    greys = [red for red, green, blue in palette.file_colours if red == green == blue]
    black_white = (0, 255) if WHITE in palette.void else (0,)
    near = NEAR / 3**0.5  # in each channel
    return any(
        abs(value - grey) <= near for value in values if value not in black_white for grey in greys if grey
    )


def _are_colours(values: list[int], palette: Palette) -> bool:
    """Whether all greys of a map are colours of the palette, and one of them is a class's."""
    known = [palette.file_colours.get((value,) * 3) for value in values]
    return None not in known and any(colour != VOID for colour in known)


def _are_indices(grey: np.ndarray, values: list[int], settings: MapSettings) -> bool:
    """Whether a greyscale map (H, W) with the sorted distinct `values` holds class indices, 255 void.

    If the data set is not known to hold indices, 0 and 1 may be a mask, and greys of the palette are colours.
    """
    if not settings.map_indices and _are_colours(values, settings.palette):
        return False
    indices = [value for value in values if value != 255]
    largest = max(indices, default=0)
    if largest > len(settings.palette.names) or (largest < 2 and not settings.map_indices):
        return False
    return len(values) <= PHOTO_VALUES or (grey[:, 1:] == grey[:, :-1]).mean() >= FLAT_SHARE


def is_mask(grey: np.ndarray, values: list[int], all_white: bool) -> bool:
    """Whether a greyscale map (H, W) with the sorted distinct `values` is a mask.

    A mask has only 0 and 1, or both 0 and 255 in more than half of its pixels. all_white: a map of only 1
    or only 255 is a mask, too.
    """
    if values == [0, 1] or (all_white and values in ([1], [255])):
        return True
    return values[0] == 0 and values[-1] == 255 and np.isin(grey, (0, 255)).mean() > 0.5


def _mask_index(values: list[int], settings: MapSettings) -> np.uint8:
    """The class index of a mask. UserError if its class is not known."""
    names = settings.palette.names
    if settings.mask_class is None and len(names) > 1:
        or_indices = " or class indices of 0 and 1" if values[-1] == 1 else ""
        raise UserError(
            f"is a mask of {values[0]} and {values[-1]}{or_indices}, not a map in the palette's colours: "
            f"give its class with --mask_class ({settings.palette.listed()})"
        )
    return np.uint8(1 + names.index(settings.mask_class or names[0]))


def _label_message(settings: MapSettings) -> str:
    if settings.trained:
        return f"holds 0, 128 and 255, which are not class colours: {settings.colour_remedy()}"
    if settings.palette == SECOND:
        return (
            "holds 0, 128 and 255 as LEVIR-MCI's labels do: paint 255 as a building, (128, 0, 0), or use the "
            "layout of LEVIR-MCI, with a folder label/"
        )
    return (
        "holds 0, 128 and 255, which are not in the palette: give the classes the colours "
        "[128, 128, 128] and [255, 255, 255] in palette.yaml, and `void: [[0, 0, 0]]`"
    )


def _index_message(unknown: list[int], settings: MapSettings, lossy: bool) -> str:
    look = f"holds the greyscale values {unknown[:5]}, which look like class indices"
    if lossy:
        return f"{look} changed by JPEG or WebP: save the map as PNG"
    if settings.mask_class is not None and max(unknown) <= len(settings.palette.names):
        return f"{look}, not a mask: leave --mask_class out"
    remedy = "add the other classes to palette.yaml (docs/data.md)"
    if settings.trained:
        remedy = "which are the model's classes: save the map with these"
    return (
        f"{look}: these must be 0 (void) to {len(settings.palette.names)} ({settings.palette.listed()}), "
        f"{remedy}"
    )


def settings_of(paths: Iterable[Path], settings: MapSettings) -> MapSettings:
    """The settings with what the greyscale maps of a data set say: whether they hold class indices.

    A map of 0 and 1 alone may be a mask as well, so maps are read, in order, until one tells. If the palette
    has only one class, masks show that class. UserError for class indices beside a `mask_class`.
    """
    masks = False
    for path, grey in _grey_maps(paths):
        values = np.unique(grey).tolist()
        if _are_indices(grey, values, settings):
            if settings.mask_class is not None:
                raise UserError(
                    f"{path} holds the class indices {values[:5]}, not a mask: leave --mask_class out"
                )
            return replace(settings, map_indices=True)
        masks |= values in ([0, 1], [1], [0, 255])
        if 0 in values and 255 in values:
            break
    if masks and len(settings.palette.names) == 1:
        return replace(settings, mask_class=settings.palette.names[0])
    return settings


def _grey_maps(paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    """The greyscale maps (H, W) among lossless files.

    Files with three channels are read until one has colours, then only files with one channel. Files that
    cannot be read are left to `read_map`, which says why.
    """
    coloured = False
    for path in paths:
        try:
            with Image.open(path) as file:
                one_channel = file.mode in ("1", "L", "LA", *DEEP_MODES)
                if file.format in LOSSY or (coloured and not one_channel):
                    continue
            colours = read_pixels(path).colours
        except (UserError, OSError, Image.DecompressionBombError):
            continue
        if (colours == colours[..., :1]).all():
            yield path, colours[..., 0]
        else:
            coloured = True
