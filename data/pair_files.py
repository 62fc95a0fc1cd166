"""The files of pairs to caption: those of one pair, or a table of many."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from data.images import read_views

COLUMNS = ("img_A", "img_B", "seg_A", "seg_B")
Entry = dict[str, Path | None]  # the four files of a pair; both maps may be absent


def one_pair(images: list[str]) -> Entry:
    """The files given on the command line; both maps or none."""
    if len(images) not in (2, 4):
        raise ValueError(
            f"a pair is IMG_A IMG_B or IMG_A IMG_B SEG_A SEG_B, got {len(images)} files (or use --pairs FILE)"
        )
    return {column: Path(images[i]) if i < len(images) else None for i, column in enumerate(COLUMNS)}


def read_pairs_file(path: Path) -> list[Entry]:
    """Pairs of a CSV or JSON file, paths relative to its folder. ValueError names the row that breaks a
    rule."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: --pairs takes a CSV or JSON file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(io.StringIO(text)))
        entries = [{c: path.parent / row[c] if row.get(c) else None for c in COLUMNS} for row in rows]
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no table of pairs ({error}): columns {', '.join(COLUMNS)}") from None
    for number, entry in enumerate(entries, 1):
        if not (entry["img_A"] and entry["img_B"]) or bool(entry["seg_A"]) != bool(entry["seg_B"]):
            raise ValueError(f"{path}, row {number}: a pair needs img_A and img_B, and both maps or none")
        for file in filter(None, entry.values()):
            if not file.is_file():
                raise FileNotFoundError(f"{path}, row {number}: {file} not found")
    if not entries:
        raise ValueError(f"{path} holds no pair: give a header {','.join(COLUMNS)} and a row for each pair")
    return entries


def read_files(entry: Entry) -> list[np.ndarray]:
    """The four views of a pair, each (H, W, 3) uint8 as large as in its file."""
    return read_views(tuple(entry[column] for column in COLUMNS))
