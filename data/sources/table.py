"""A CSV table, one caption a row. Rows with the same two images are one pair with several captions.

    img_A,img_B,seg_A,seg_B,caption,split      optional columns: seg_A, seg_B, changeflag, source

The cells are separated by commas, semicolons or tabs. Paths are relative to the folder of the table.
"""

from typing import Any

from data.sources.entries import Entry
from data.sources.listed_pairs import Row, grouped, has_keys
from data.sources.pair import Warnings

TITLE = "a table of pairs"
FILES = ("img_A", "img_B", "seg_A", "seg_B")
COLUMNS = (*FILES, "caption", "split", "changeflag", "source")
FLAGS = {"0": 0, "1": 1, "": None}


def recognises(content: Any) -> bool:
    """Whether a file has this form: rows with two images and a caption."""
    return has_keys(content, "img_A", "img_B", "caption")


def entries(content: list[dict], split: str | None, warnings: Warnings) -> list[Entry]:
    """An entry for each pair. split: of the rows that name none."""
    return grouped([_row(number, row, split) for number, row in enumerate(content, 1)])


def _row(number: int, row: dict, split: str | None) -> Row:
    """A row of the table; an empty cell is a missing value."""
    flag = row.get("changeflag")
    cells = {column: row.get(column) or None for column in COLUMNS}
    return Row(
        place=f"row {number}",
        files=tuple(cells[column] for column in FILES),
        captions=[cells["caption"]] if cells["caption"] else [],
        split=cells["split"] or split,
        changeflag=FLAGS.get(str(flag), flag),
        source=cells["source"],
    )
