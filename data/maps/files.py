"""Read semantic maps of every kind as colours of a palette, (H, W, 3) uint8, void black.

The kinds are maps in the palette's colours (RGB, RGBA, palette PNG, JPEG), greyscale maps of class indices,
masks of one class, and LEVIR-MCI's labels. docs/data.md states how each is recognised and read.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from data.images import ImageLike, name_of, read_rgb
from data.maps.colours import UNCLEAR_SHARE, closest_colours, prepared_colours
from data.maps.grey import grey_classes
from data.maps.levir_labels import colour_label, paint_label_rgb
from data.maps.pixels import MapPixels, read_pixels
from data.maps.settings import SECOND_MAPS, MapSettings
from data.palette import BLACK, SECOND, VOID, mask_unchanged


class MapFacts(NamedTuple):
    """How a map was read.

    kind: of the map, for messages; None: no map was given. near: fraction of the pixels that got the closest
    class. unclear: fraction of the pixels whose colours are those of no class. foreign: whether there are so
    many of these that the map must be a photo or have another palette; its colours are kept then.
    translucent: fraction of the pixels that are partly transparent.
    """

    kind: str | None = None
    near: float = 0.0
    unclear: float = 0.0
    foreign: bool = False
    translucent: float = 0.0


LEAST_SHARE = 0.01  # of the pixels of a map to caption: fewer are taken for mistakes
NO_MAPS = (MapFacts(), MapFacts())


class PairViews(NamedTuple):
    """The four views of a pair, (H, W, 3) uint8 each in the order of VIEWS, and the facts about its maps."""

    views: list[np.ndarray]
    maps: tuple[MapFacts, MapFacts]


def read_map(source: ImageLike, settings: MapSettings = SECOND_MAPS) -> tuple[np.ndarray, MapFacts]:
    """Read a map as prepared colours (H, W, 3) uint8, with the facts about it.

    Raises the errors of `data.images.read_rgb`; UserError for a mask without a class, for class indices above
    the number of classes, and for what may be two kinds.
    """
    pixels = read_pixels(source)
    try:
        image, facts = _map_colours(pixels, settings)
    except UserError as error:
        raise UserError(f"{name_of(source)} {error}") from None
    if pixels.alpha is not None:
        image[pixels.alpha == 0] = VOID
        facts = facts._replace(translucent=float(((pixels.alpha > 0) & (pixels.alpha < 255)).mean()))
    return image, facts


def _map_colours(pixels: MapPixels, settings: MapSettings) -> tuple[np.ndarray, MapFacts]:
    colours = pixels.colours
    if pixels.alpha is not None:
        colours[pixels.alpha == 0] = BLACK
    if (colours == colours[..., :1]).all():
        classes = grey_classes(colours[..., 0], settings, pixels.lossy)
        if classes is not None:
            indices, kind = classes
            return settings.palette.paint(indices).transpose(1, 2, 0).copy(), MapFacts(kind)
    prepared, exact = prepared_colours(colours, settings.palette)
    image, unclear = closest_colours(colours, prepared, exact, settings.palette)
    _check_palette_image(pixels, unclear, settings)
    foreign = bool(unclear.mean() > UNCLEAR_SHARE)
    if settings.trained and unclear.mean() > LEAST_SHARE:
        _check_classes(prepared if foreign else image, settings)
    if foreign:
        return prepared, MapFacts(pixels.kind, unclear=1 - float(exact.mean()), foreign=True)
    near = float((~exact & ~unclear).mean())
    return image, MapFacts(pixels.kind, near, float(unclear.mean()))


def _check_classes(prepared: np.ndarray, settings: MapSettings) -> None:
    """UserError if almost no pixel that is not void has a class; prepared (H, W, 3) uint8."""
    classes = settings.palette.map_classes(prepared.transpose(2, 0, 1))
    if (classes > 0).sum() <= LEAST_SHARE * prepared.any(-1).sum():
        raise UserError(
            "must be a map in the colours of the model's classes, almost no pixel has one (images come "
            f"before maps: IMG_A IMG_B SEG_A SEG_B): {settings.colour_remedy()}"
        )


def _check_palette_image(pixels: MapPixels, unclear: np.ndarray, settings: MapSettings) -> None:
    """UserError if the colours of a palette image are not the palette's but its indices may be classes."""
    indices = pixels.indices
    if indices is None or not unclear.any():
        return
    largest = int(indices.max())
    if largest <= len(settings.palette.names):
        colour = tuple(pixels.colours[unclear][0].tolist())
        raise UserError(
            f"is a palette image with the colour {colour} of no class, but its indices 0 to {largest} may be "
            f"classes: save the indices as a greyscale image, or {settings.colour_remedy([colour])}"
        )


def read_label(path: Path, settings: MapSettings = SECOND_MAPS) -> tuple[np.ndarray, MapFacts]:
    """Read a LEVIR-MCI label as a map (H, W, 3) uint8, from label/ or label_rgb/.

    If the data set has its own palette, its labels are read like other maps. A mask of 0 and 255, or of 0
    and 1, is painted as the `mask_class` of the settings if there is one. UserError on other values and
    colours.
    """
    if settings.palette != SECOND:
        return read_map(path, settings)
    label = read_rgb(path)
    if (label != label[..., :1]).any():
        colours, near = paint_label_rgb(path, label)
        return colours, MapFacts("LEVIR-MCI's label_rgb", near)
    if settings.mask_class is not None and np.isin(label, (0, 1, 255)).all():
        return read_map(path, settings)
    try:
        return colour_label(label[..., 0]), MapFacts("LEVIR-MCI's label")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_pair(
    paths: Sequence[ImageLike | None], label: Path | None = None, settings: MapSettings = SECOND_MAPS
) -> PairViews:
    """The four views of a pair, each (H, W, 3) uint8 in the size of its file, and the facts about its maps.

    A map whose path is None is void; `label`, if given, is the second date's map. UserError if sizes differ
    or the first map is a mask.
    """
    images = [read_rgb(path) for path in paths[:2]]
    maps = [(np.full_like(images[0], VOID), MapFacts()) for _ in range(2)]
    if paths[2] is not None:
        maps[0] = _first_map(paths[2], settings)
    if label or paths[3] is not None:
        maps[1] = read_label(label, settings) if label else read_map(paths[3], settings)
    (before, facts_before), (after, facts_after) = maps
    sizes = [view.shape[:2] for view in (*images, before, after)]
    if len(set(sizes)) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise UserError(
            f"{name_of(paths[0])}: the images of a pair must have one size (rows x columns), got {listed}: "
            "crop or resize them to the same area"
        )
    if settings.mask_unchanged:
        before, after = mask_unchanged(before, after, settings.palette)
    return PairViews([*images, before, after], (facts_before, facts_after))


def read_views(
    paths: Sequence[ImageLike | None], label: Path | None = None, settings: MapSettings = SECOND_MAPS
) -> list[np.ndarray]:
    """The views of `read_pair`."""
    return read_pair(paths, label, settings).views


def _first_map(source: ImageLike, settings: MapSettings) -> tuple[np.ndarray, MapFacts]:
    """Read the map of the first date, which must not be a mask unless the palette has only one class."""
    if len(settings.palette.names) == 1 or settings.mask_class is None:
        return read_map(source, settings)
    try:
        return read_map(source, replace(settings, mask_class=None))
    except UserError as error:
        if "--mask_class" not in str(error):
            raise
        raise UserError(
            f"{name_of(source)} is a mask, but only the second date may have masks: leave out the first "
            f"date's maps{'' if settings.trained else ', or give a palette.yaml with a single class'}"
        ) from None
