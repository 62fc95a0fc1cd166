"""Read the pairs of a data set in any of the public layouts (docs/data.md lists them).

A captions file is recognised by its content. READERS has a module for each form, with `TITLE`,
`recognises(content)` and `entries(content, split, warnings)`. All entries have the keys of LEVIR-CC's JSON
(entries.py); image_files.py finds their images.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from data.errors import UserError
from data.sources import changechat, coco, levir_cc, rscc, table
from data.sources.captions_files import find_captions_files, read_captions_file, split_in_name
from data.sources.checks import check_files, check_maps, check_names, with_captions
from data.sources.entries import pairs_of
from data.sources.image_files import ImageFiles
from data.sources.pair import SPLITS, Dataset, Pair, Warnings, original_name, source_of, tile_source
from data.sources.val_share import with_val_share
from data.sources.words import (
    NO_CHANGE_SENTENCES,
    changed_as_authors,
    mostly_no_change,
    split_into_words,
)

__all__ = [
    "NO_CHANGE_SENTENCES",
    "SPLITS",
    "Dataset",
    "Pair",
    "changed_as_authors",
    "mostly_no_change",
    "original_name",
    "parse_pairs",
    "read_dataset",
    "source_of",
    "split_into_words",
    "tile_source",
    "with_val_share",
]

READERS = (coco, levir_cc, table, rscc, changechat)  # COCO before LEVIR-CC: both have `images`
MASK_CLASSES = {"whuCCcaptions.json": "building"}  # of data sets whose masks have a known class


def read_dataset(path: str | Path) -> Dataset:
    """All pairs of a data set, in the order of its captions file; `restval` counts as train.

    path: the folder of the data set, or its captions file. Raises FileNotFoundError if the folder, captions
    or images are missing, UserError if captions are invalid or a split lacks the maps that others have.
    """
    root, paths = find_captions_files(Path(path))
    images = ImageFiles(root, Warnings())
    pairs, titles = [], {}
    for captions_file in paths:
        reader, parsed = _read(captions_file, images)
        pairs += parsed
        titles[reader.TITLE] = None
    names = " and ".join(captions_file.name for captions_file in paths)
    where = str(paths[0]) if len(paths) == 1 else f"{root}: {names}"
    check_names(where, pairs)
    pairs = with_captions(where, pairs, images.warnings)
    check_files(names, pairs, images)
    check_maps(pairs, images)
    layout = f"{' and '.join(titles)} ({names}), images in {images.describe()}"
    return Dataset(layout, pairs, images.warnings.all(), MASK_CLASSES.get(names))


def parse_pairs(root: Path, annotations: Path) -> list[Pair]:
    """The pairs in a captions file, whether or not `root` has their images; errors as in `read_dataset`."""
    images = ImageFiles(root, Warnings())
    _, pairs = _read(annotations, images)
    check_names(str(annotations), pairs)
    return with_captions(str(annotations), pairs, images.warnings)


def _read(path: Path, images: ImageFiles) -> tuple[ModuleType, list[Pair]]:
    """The reader of a captions file, and its pairs, with or without captions."""
    content = read_captions_file(path)
    reader = next((reader for reader in READERS if reader.recognises(content)), None)
    if reader is None:
        raise UserError(f"{path} {_unknown_form(path, content)}")
    try:
        entries = reader.entries(content, split_in_name(path), images.warnings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return reader, pairs_of(path, entries, images)


def _unknown_form(path: Path, content: Any) -> str:
    """Why a file is not a captions file, and the remedy."""
    first = content[0] if isinstance(content, list) and content else None
    if path.suffix.lower() == ".csv":
        columns = ", ".join(map(str, first)) if first else "no row"
        return (
            f"must have the columns img_A, img_B, caption and split, got {columns:.200}: docs/data.md shows "
            "the form"
        )
    if isinstance(first, dict) and {"image_id", "caption"} <= first.keys():
        return (
            "holds captions in the form of COCO's results, without the images: give COCO's captions JSON, "
            "with `images` and `annotations`"
        )
    return (
        "must hold an object with a non-empty list `images`, or have another form that docs/data.md shows: "
        "give the data set's annotations"
    )
