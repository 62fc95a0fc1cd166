"""The palette of a data set: the names and colours of the classes in its semantic maps.

A data set with other classes than SECOND's has a file `palette.yaml` in its folder:

    classes: {water: [0, 0, 255], forest: [0, 128, 0]}    # name: red, green, blue; class indices from 1
    void: [[0, 0, 0], [255, 255, 255]]                    # colours of "no class", index 0

Prepared maps have the classes' colours, and void is black in them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from data.listing import listed

Colour = tuple[int, int, int]

VOID: Colour = (0, 0, 0)  # in prepared maps
BLACK, WHITE = VOID, (255, 255, 255)
MOST_CLASSES = 254
LISTED = 10  # maximum number of classes that a message lists
FORM = "write it as `classes: {water: [0, 0, 255], forest: [0, 128, 0]}` (docs/data.md shows the form)"


@dataclass(frozen=True)
class Palette:
    """The classes of a data set's maps: class indices 1 to K in the order of `names`, index 0 is void.

    names, colours: of the K classes. void: the colours of void in the data set's files; black counts as void
    unless a class has it. brightened: the colours of the classes in maps whose brightness was raised, K or
    none.

    Raises UserError, a message without the name of a file, for a repeated name or colour and for other than
    1 to 254 classes.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    void: tuple[Colour, ...] = (BLACK, WHITE)
    brightened: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise UserError(f"a palette must have 1 to {MOST_CLASSES} classes, got {len(self.names)}: {FORM}")
        for name in self.names:
            _check_name(name)
        for colour in (*self.colours, *self.void, *self.brightened):
            _check_colour(colour)
        _check_distinct(self)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names by class index: "void", then those of the classes."""
        return ("void", *self.names)

    @cached_property
    def prepared(self) -> tuple[Colour, ...]:
        """The colours of the classes in prepared maps: their own, but a free grey for a black class."""
        used = {*self.colours, *self.void, *self.brightened}
        grey = next((value,) * 3 for value in range(64, 256) if (value,) * 3 not in used)
        return tuple(grey if colour == BLACK else colour for colour in self.colours)

    @cached_property
    def file_colours(self) -> dict[Colour, Colour]:
        """The colours of the data set's files, with their colours in prepared maps."""
        known = {BLACK: VOID, **dict.fromkeys(self.void, VOID)}
        known |= {colour: colour for colour in self.brightened}
        return known | dict(zip(self.colours, self.prepared, strict=True))

    def paint(self, classes: np.ndarray) -> np.ndarray:
        """Paint class indices in the prepared colours, void black: (..., H, W) -> (..., 3, H, W) uint8."""
        return np.moveaxis(np.array([VOID, *self.prepared], dtype=np.uint8)[classes], -1, -3)

    def map_classes(self, maps: np.ndarray) -> np.ndarray:
        """The class indices of prepared maps, in either brightness: (..., 3, H, W) -> (..., H, W) uint8.

        Black, white and colours of no class are void.
        """
        return class_table(self)[colour_codes(np.moveaxis(maps, -3, -1))]

    def describe(self) -> str:
        """The classes with their colours: "1 water (0, 0, 255), 2 forest (0, 128, 0)"."""
        classes = zip(self.names, self.colours, strict=True)
        return ", ".join(f"{index} {name} {colour}" for index, (name, colour) in enumerate(classes, 1))

    def listed(self) -> str:
        """The names for messages, at most LISTED of them."""
        return listed(self.names, LISTED)

    def listed_colours(self) -> str:
        """The names with the colours of the files for messages, at most LISTED of them."""
        classes = zip(self.names, self.colours, strict=True)
        return listed([f"{name} {colour}" for name, colour in classes], LISTED)

    def to_json(self) -> str:
        """The palette as JSON, as stored in input files and checkpoints; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> "Palette":
        """A stored palette; None, as in files of earlier versions, means SECOND's. UserError if invalid."""
        if text is None:
            return SECOND
        try:
            parts = json.loads(text)
            names, *colours = (parts[name] for name in ("names", "colours", "void", "brightened"))
            return cls(tuple(names), *(tuple(map(tuple, each)) for each in colours))
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise UserError(f"its palette is not valid ({error!r:.80})") from None


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        raise UserError(
            f"the name of a class must be text of 1 to 100 characters, got {name!r:.60}: put it in quotes"
        )
    if name.lower() == "void":
        raise UserError(
            f"a class must not be named {name}, which means no class: list its colour under `void`"
        )


def _check_colour(colour: object) -> None:
    whole = isinstance(colour, tuple) and all(type(value) is int for value in colour)
    if not whole or len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        shown = list(colour) if isinstance(colour, tuple) else colour
        raise UserError(
            f"a colour must be [red, green, blue] of whole numbers from 0 to 255, got {shown!r:.60}: "
            "write for example [0, 0, 255]"
        )


def _check_distinct(palette: Palette) -> None:
    """Raise UserError if two classes share a name or a colour, or a class and void share a colour."""
    owner: dict[Colour, str] = {}
    for name, colour in zip(palette.names, palette.colours, strict=True):
        if colour in owner:
            raise UserError(
                f"the colours of the classes must differ, {owner[colour]} and {name} both have "
                f"{list(colour)}: give one of them the colour that it has in the maps, or merge the two"
            )
        owner[colour] = name
    if len(set(palette.names)) < len(palette.names):
        repeated = next(name for name in palette.names if palette.names.count(name) > 1)
        raise UserError(f"the names of the classes must differ, {repeated} occurs twice: rename one of them")
    for colour in palette.void:
        if colour in owner:
            raise UserError(
                f"void and class {owner[colour]} both have the colour {list(colour)}: remove it from `void`, "
                "or give the class the colour that it has in the maps"
            )


SECOND = Palette(
    names=(
        "low vegetation", "non-vegetated ground surface", "tree", "water", "building", "playground"
    ),
    colours=((0, 128, 0), (128, 128, 128), (0, 255, 0), (0, 0, 255), (128, 0, 0), (255, 0, 0)),
    brightened=(
        (80, 208, 80), (208, 208, 208), (80, 255, 80), (80, 80, 255), (208, 80, 80), (255, 80, 80)
    ),
)  # fmt: skip


def colour_codes(image: np.ndarray) -> np.ndarray:
    """One integer per pixel, 0xRRGGBB: (..., 3) uint8 -> (...) uint32."""
    codes = image[..., 0].astype(np.uint32)
    for channel in (1, 2):
        codes <<= 8
        codes |= image[..., channel]
    return codes


@lru_cache(maxsize=8)
def class_table(palette: Palette) -> np.ndarray:
    """The class index of each colour 0xRRGGBB of prepared maps, 0 for void and other colours: (2^24) uint8.

    Only the pages in use take up memory.
    """
    table = np.zeros(1 << 24, dtype=np.uint8)
    for colours in (palette.brightened, palette.prepared):
        if colours:
            table[colour_codes(np.array(colours, dtype=np.uint8))] = np.arange(1, len(colours) + 1)
    return table


class MapClasses(NamedTuple):
    """The class indices, without void, that a data set's maps have at each date."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    palette: Palette = SECOND


def classes_by_date(maps: Iterable[np.ndarray], palette: Palette = SECOND) -> MapClasses:
    """The classes that occur in pairs of maps (2, 3, H, W) uint8.

    Stops reading as soon as both dates have all classes.
    """
    present = np.zeros((2, len(palette.labels)), dtype=bool)
    present[:, 0] = True
    for pair in maps:
        for date in np.flatnonzero(pair.any(axis=(1, 2, 3))):
            present[date, palette.map_classes(pair[date])] = True
        if present.all():
            break
    before, after = (tuple((np.flatnonzero(row[1:]) + 1).tolist()) for row in present)
    return MapClasses(before, after, palette)


def unknown_colours(image: np.ndarray, palette: Palette, most: int | None = None) -> dict[Colour, int]:
    """The colours of a prepared map (H, W, 3) uint8 that no class has, with pixel counts.

    most: return only so many, the most common first; None: all.
    """
    codes = colour_codes(image)
    void = colour_codes(np.array([VOID, *palette.void], dtype=np.uint8))
    unknown = (class_table(palette)[codes] == 0) & ~np.isin(codes, void)
    colours, pixels = np.unique(codes[unknown], return_counts=True)
    if most is not None:
        first = np.argsort(-pixels, kind="stable")[:most]
        colours, pixels = colours[first], pixels[first]
    return {
        (code >> 16, code >> 8 & 255, code & 255): count
        for code, count in zip(colours.tolist(), pixels.tolist(), strict=True)
    }


def has_class(image: np.ndarray, palette: Palette) -> bool:
    """Whether a prepared map (H, W, 3) uint8 has a pixel in a class's colour."""
    return bool(class_table(palette)[colour_codes(image)].any())


def same_classes(stored: Palette, other: Palette) -> bool:
    """Whether prepared maps in one palette mean the same in the other."""
    return (stored.names, stored.prepared, stored.brightened) == (
        other.names,
        other.prepared,
        other.brightened,
    )


def mask_unchanged(before: np.ndarray, after: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """Both maps (H, W, 3) uint8 with void where they show the same class."""
    same = same_class(before, after, palette)[..., None]
    return np.where(same, np.uint8(VOID), before), np.where(same, np.uint8(VOID), after)


def same_class(before: np.ndarray, after: np.ndarray, palette: Palette) -> np.ndarray:
    """Where both maps (H, W, 3) uint8 show the same class, in any brightness, or the same other colour."""
    codes = colour_codes(before), colour_codes(after)
    classes = [class_table(palette)[each] for each in codes]
    same_colour = (codes[0] == codes[1]) & (codes[0] != 0)
    return same_colour | ((classes[0] == classes[1]) & (classes[0] != 0))
