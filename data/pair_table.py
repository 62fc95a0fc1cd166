"""The files of pairs to caption: those of one pair, or a table of many; and what to tell of them."""

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
Entry = dict[str, Path | None]  # the four files of a pair; the maps may be absent: both, or the first
# A larger share of pixels in no class's colour is not a map's. Edges that resizing mixed took at most 17 %
# of a map (demo and LEVIR, bilinear and Lanczos, halved); photos in the maps' place had 74 to 100 %.
UNKNOWN_SHARE = 0.2


def one_pair(images: list[str]) -> Entry:
    """The files given on the command line: both maps, the second date's or none."""
    if len(images) not in (2, 3, 4):
        raise UserError(
            "a pair is IMG_A IMG_B, IMG_A IMG_B SEG_A SEG_B or IMG_A IMG_B MASK_B, "
            f"got {len(images)} files (or use --pairs FILE)"
        )
    before, after, *maps = map(Path, images)
    if len(maps) < 2:
        maps = [None, *(maps or [None])]
    return dict(zip(COLUMNS, (before, after, *maps), strict=True))


def read_pairs_file(path: Path) -> list[Entry]:
    """Pairs of a CSV or JSON file, paths relative to its folder. UserError names the row that breaks a
    rule."""
    rows = (read_json if path.suffix == ".json" else read_csv)(path, TABLE_FORM)
    try:
        entries = [{c: path.parent / row[c] if row.get(c) else None for c in COLUMNS} for row in rows]
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path} is no table of pairs ({error}): columns {', '.join(COLUMNS)}") from None
    for number, entry in enumerate(entries, 1):
        if not (entry["img_A"] and entry["img_B"]) or (entry["seg_A"] and not entry["seg_B"]):
            raise UserError(
                f"{path}, row {number}: a pair needs img_A and img_B, and both maps, seg_B alone or none"
            )
    if not entries:
        raise UserError(f"{path} holds no pair: give a header {','.join(COLUMNS)} and a row for each pair")
    return entries


def read_files(entry: Entry, mask_class: str | None = None) -> list[np.ndarray]:
    """The four views of a pair, each (H, W, 3) uint8 as large as in its file; warns of other colours.

    mask_class: the class that a mask at the second date shows (`data.palette.map_colours`).
    """
    views = read_views(tuple(entry[column] for column in COLUMNS), mask_class=mask_class)
    for column, view in zip(COLUMNS[2:], views[2:], strict=True):
        if share := unknown_share(view):
            remedy = "README.md has the table of colours"
            if share > UNKNOWN_SHARE:
                remedy = f"the order is IMG_A IMG_B SEG_A SEG_B, {remedy}"
            percent = max(round(100 * share), 1)
            tell(f"{entry[column]}: {percent}% of its pixels have no class's colour: {remedy}")
    return views


def tell(line: str) -> None:
    """A line on standard error; lines that several threads tell do not mix, as those of `print` may."""
    sys.stderr.write(f"{line}\n")


def tell_maps(entries: list[Entry], views: Sequence[str], instead: str) -> None:
    """Say what a model that looks at `views` leaves unused, or how many pairs have no maps.

    instead: "void" or "detected" maps, which those pairs get.
    """
    absent = sum(entry["seg_B"] is None for entry in entries)
    reads_images, reads_maps = ("rgb_a" in views), ("sem_a" in views)
    if not reads_images and instead == "void":
        print("this model reads maps alone: the images are not used", file=sys.stderr)
    if not reads_maps:
        if absent < len(entries) or instead == "detected":
            print("this model reads images alone: the maps are not used", file=sys.stderr)
    elif absent and len(entries) == 1:
        print(f"no maps given: both are {instead}", file=sys.stderr)
    elif absent:
        print(f"no maps given for {absent} of {len(entries)} pairs: they are {instead}", file=sys.stderr)
