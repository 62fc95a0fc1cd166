"""The files of the pairs to caption, from the command line or from a table, and remarks about them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.errors import UserError
from data.images import read_views
from data.json_file import read_csv, read_json
from data.palette import unknown_share

COLUMNS = ("img_A", "img_B", "seg_A", "seg_B")
TABLE_FORM = f"--pairs takes a CSV or JSON file with the columns {', '.join(COLUMNS)}"
Entry = dict[str, Path | None]  # the four files of a pair; both maps or the first one may be missing
# An image with a larger fraction of pixels in unknown colours is probably not a map. Smooth resizing changed
# at most 17 % of a map's pixels (demo and LEVIR, bilinear and Lanczos, halved); photos have 74 to 100 %.
UNKNOWN_SHARE = 0.2


def pair_of_files(images: list[str]) -> Entry:
    """The pair given on the command line, with both maps, the second date's map or none."""
    if len(images) not in (2, 3, 4):
        raise UserError(
            "a pair must be IMG_A IMG_B, IMG_A IMG_B SEG_A SEG_B or IMG_A IMG_B MASK_B, "
            f"got {len(images)} files (or use --pairs FILE)"
        )
    before, after, *maps = map(Path, images)
    if len(maps) < 2:
        maps = [None, *(maps or [None])]
    return dict(zip(COLUMNS, (before, after, *maps), strict=True))


def read_pairs_file(path: Path) -> list[Entry]:
    """The pairs of a CSV or JSON file, with paths relative to its folder. UserError names an invalid row."""
    read = read_json if path.suffix == ".json" else read_csv
    rows = read(path, TABLE_FORM)
    try:
        entries = [_entry(row, path.parent) for row in rows]
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is not a table of pairs ({error}): give the columns {', '.join(COLUMNS)}"
        ) from None
    for number, entry in enumerate(entries, 1):
        if not (entry["img_A"] and entry["img_B"]) or (entry["seg_A"] and not entry["seg_B"]):
            raise UserError(
                f"{path}, row {number}: a pair needs img_A and img_B, and both maps, seg_B alone or none"
            )
    if not entries:
        raise UserError(f"{path} holds no pair: give a header {','.join(COLUMNS)} and a row for each pair")
    return entries


def _entry(row: dict[str, str], folder: Path) -> Entry:
    """The files of a row; an empty or missing cell is None."""
    return {column: folder / row[column] if row.get(column) else None for column in COLUMNS}


def read_files(entry: Entry, mask_class: str | None = None) -> list[np.ndarray]:
    """The four views of a pair, each (H, W, 3) uint8 in the size of its file; warns of unknown map colours.

    mask_class: the class of a mask at the second date (`data.palette.map_colours`).
    """
    views = read_views(tuple(entry[column] for column in COLUMNS), mask_class=mask_class)
    for column, view in zip(COLUMNS[2:], views[2:], strict=True):
        if share := unknown_share(view):
            remedy = "docs/data.md has the table of colours"
            if share > UNKNOWN_SHARE:
                remedy = f"the order is IMG_A IMG_B SEG_A SEG_B, {remedy}"
            percent = max(round(100 * share), 1)
            print_remark(f"{entry[column]}: {percent}% of its pixels have a colour of no class: {remedy}")
    return views


def print_remark(line: str) -> None:
    """Print a line to standard error in one write, so that lines of several threads do not mix."""
    sys.stderr.write(f"{line}\n")


def remark_on_maps(entries: list[Entry], views: Sequence[str], replacement: str) -> None:
    """Print which files a model that uses `views` ignores, or how many pairs have no maps.

    replacement: the maps that pairs without maps get, "void" or "detected".
    """
    missing = sum(entry["seg_B"] is None for entry in entries)
    uses_images, uses_maps = ("rgb_a" in views), ("sem_a" in views)
    if not uses_images and replacement == "void":
        print_remark("this model uses only the maps: the images are ignored")
    if not uses_maps:
        if missing < len(entries) or replacement == "detected":
            print_remark("this model uses only the images: the maps are ignored")
    elif missing and len(entries) == 1:
        print_remark(f"no maps given: both are {replacement}")
    elif missing:
        print_remark(f"no maps given for {missing} of {len(entries)} pairs: they are {replacement}")
