"""The pairs that the readers return, their splits, and the names of their source images."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from data.data_warning import DataWarning

SPLITS = ("train", "val", "test")
SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
FIRST_FEW = 5


@dataclass(frozen=True)
class Pair:
    """One pair of a dataset: its image files and captions."""

    filename: str
    split: str  # train, val or test
    views: tuple[Path | None, ...]  # four, in the order of VIEWS; None: a void map
    captions: tuple[tuple[str, ...], ...]  # the words of each sentence
    raw: tuple[str, ...]  # the same sentences as written
    changed: bool
    augmented: bool
    label: Path | None = None  # LEVIR-MCI: building and road label, used as the map of the second date
    wordless: int = 0  # number of sentences left out because they have no words
    flagged: bool = True  # whether the data set has a `changeflag`; else `changed` follows from the captions
    source: str | None = None  # the image it was cut from; None if unknown


@dataclass(frozen=True)
class Dataset:
    """What `data.sources.read_dataset` returns."""

    layout: str  # the form of the captions and of the folders, in words
    pairs: list[Pair]  # in the order of the captions file
    warnings: list[DataWarning]
    mask_class: str | None = None  # the class of the masks, if the data set defines it


class Warnings:
    """Collects the items of warnings while a data set is read. A kind is a problem and its remedy."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)  # distinct items, in order

    def add(self, kind: tuple[str, str], item: str) -> None:
        self._items[kind][item] = None

    def all(self) -> list[DataWarning]:
        """A warning for each kind, with the number of its items."""
        return [
            DataWarning(f"{problem}: {len(items)}", remedy, list(items))
            for (problem, remedy), items in self._items.items()
        ]


def first_few(items: Sequence[str], most: int = FIRST_FEW) -> str:
    """The first items, separated by semicolons: "a; b; and 3 more"."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return "; ".join([*items[:most], *more])


def split_of(name: str) -> str | None:
    """The split that a name stands for in any case (`Train`, `validation`); None if it is not a split."""
    lower = name.lower()
    return SPLIT_OF.get(lower) or OTHER_SPLIT_NAMES.get(lower)


def tile_source(filename: str) -> str | None:
    """The image that a tile was cut from: `00003_0_256` -> `00003`, without the last one or two numbers.

    None if the name has no number at the end, or no other number (`test_000656`).
    """
    match = re.fullmatch(r"(.*?\d.*?)([_-]\d+){1,2}", original_name(filename))
    return match[1] if match else None


def original_name(filename: str) -> str:
    """The name without its suffix and without the mark of an augmented copy."""
    return PurePath(filename).stem.partition("_random_augment")[0]


def source_of(filename: str, source: str | None = None) -> str:
    """The source image of a pair: `source`, else derived from the file name, else the name of the pair.

    A pair and its augmented copies have the same source.
    """
    return source or tile_source(filename) or original_name(filename)
