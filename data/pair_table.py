"""Read the table of `caption.py --pairs`: CSV, TSV, JSON or JSON Lines, one pair per row."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import Any

from data.errors import UserError
from data.json_file import read_table
from data.pair_files import COLUMNS, PairFiles, print_remark

TABLE_FORM = (
    f"--pairs takes a CSV or JSON file with the columns {', '.join(COLUMNS)}; export spreadsheets as CSV"
)
# The parts of a column's name, in any order and case, joined by anything: `Image 1`, `before_map`, `imgA`.
KINDS = {"img": ("", "img", "image", "im", "rgb"), "seg": ("seg", "sem", "map", "mask", "label")}
DATES = {"A": ("a", "before", "pre", "t1", "time1", "1"), "B": ("b", "after", "post", "t2", "time2", "2")}


def read_pairs_file(path: Path, columns: Mapping[str, str] | None = None) -> list[PairFiles]:
    """The pairs of a table, with paths relative to its folder.

    columns: the table's name of some of COLUMNS; the others are recognised by their names (`find_columns`).
    Raises FileNotFoundError if the table is missing, UserError if it is not a table of pairs.
    """
    rows = _read_rows(path)
    header = list(dict.fromkeys(name for row in rows for name in row))
    names = find_columns(path, header, columns or {})
    pairs = []
    for number, row in enumerate(rows, 1):
        given = {column: row[name] for column, name in names.items() if row.get(name)}
        for column, value in given.items():
            if not isinstance(value, str):
                raise UserError(f"{path}, row {number}: {column} must be a path, got {value!r}: make it text")
        if not {"img_A", "img_B"} <= given.keys() or ("seg_A" in given and "seg_B" not in given):
            raise UserError(
                f"{path}, row {number}: a pair needs img_A and img_B, and both maps, seg_B alone or none"
            )
        extra = {name: row.get(name) for name in header if name not in names.values()}
        pairs.append(PairFiles(given, path.parent, extra))
    return pairs


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table by column name; the suffix gives the format."""
    if path.is_dir():
        raise UserError(f"--pairs {path} is a folder: give a table, or two folders of images without --pairs")
    rows = read_table(path, TABLE_FORM)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(
            f"{path} must be a list of objects, one for each pair: give the keys {', '.join(COLUMNS)}"
        )
    if not rows:
        raise UserError(f"{path} holds no pair: give a header {','.join(COLUMNS)} and a row for each pair")
    return rows


def find_columns(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The table's name of each of COLUMNS that it has.

    This is the name in `columns`, else the same name, else the same name in other letters, else a synonym
    such as `before`, which is reported. UserError if an image's column is missing or several fit equally.
    """
    for name in columns.values():
        if name not in header:
            raise UserError(
                f"--columns must name columns of {path}, got {name}: choose from {_shown(header)}"
            )
    names, synonyms = dict(columns), []
    free = [name for name in header if name not in columns.values()]
    for column in COLUMNS:
        fitting = [] if column in names else _fitting(column, free)
        if len(fitting) > 1:
            raise UserError(
                f"{path} must have one column for {column}, got {' and '.join(fitting)}: choose with "
                f"--columns {column}={fitting[0]}"
            )
        for name in fitting:
            names[column] = name
            if _folded(name) != _folded(column):
                synonyms.append(f"{column} is {name}")
    if not {"img_A", "img_B"} <= names.keys():
        raise UserError(
            f"{path} must have the columns img_A and img_B, got {_shown(header)}: write these names in "
            "the first row, or give yours with --columns img_A=NAME,img_B=NAME"
        )
    if synonyms:
        print_remark(f"{path}: {', '.join(synonyms)}")
    return names


def _fitting(column: str, names: Sequence[str]) -> list[str]:
    """The names that fit one of COLUMNS best."""
    if column in names:
        return [column]
    same = [name for name in names if _folded(name) == _folded(column)]
    return same or [name for name in names if SYNONYMS.get(_folded(name)) == column]


def _shown(header: Sequence[str]) -> str:
    """The names of the columns for a message of one line."""
    return shorten(", ".join(header), 200)


def parse_columns(text: str) -> dict[str, str]:
    """The value of --columns, such as "img_A=before,img_B=after". UserError on another form."""
    names = {}
    for item in text.split(","):
        column, equals, name = (part.strip() for part in item.partition("="))
        if column not in COLUMNS or not equals or not name or column in names:
            raise UserError(
                f"--columns must name {', '.join(COLUMNS)} once each, got {item.strip()!r}: write "
                "img_A=before,img_B=after with the names in your table"
            )
        names[column] = name
    return names


def _folded(name: str) -> str:
    """A name in lower case without punctuation and without `path` or `file` at its end."""
    return re.sub(r"(path|filename|file)$", "", re.sub(r"[\W_]+", "", name.casefold()))


def _synonyms() -> dict[str, str]:
    """Folded name -> column, for all combinations of a kind and a date in both orders."""
    names = {}
    for kind, date in product(KINDS, DATES):
        for kind_name, date_name in product(KINDS[kind], DATES[date]):
            names[kind_name + date_name] = names[date_name + kind_name] = f"{kind}_{date}"
    return {name: column for name, column in names.items() if not name.isdigit()}


SYNONYMS = _synonyms()
