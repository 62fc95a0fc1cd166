"""Find and read the captions files of a data set: one file, or one file per split."""

import re
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.json_file import parse_json, read_csv, read_json, read_text
from data.sources.folders import without_captions
from data.sources.pair import split_of
from data.sources.table import COLUMNS

KNOWN_NAMES = ("SECOND-CC-AUG.json", "LevirCCcaptions.json", "whuCCcaptions.json")
SUBFOLDERS = ("annotations", "description_jsontr_te_val")  # of COCO, of Dubai-CC
JSON, CSV = (".json", ".jsonl"), (".csv",)
REMEDY = "give the data set's annotations, docs/data.md shows their form"


def find_captions_files(path: Path) -> tuple[Path, list[Path]]:
    """The folder of a data set, and its captions file or its captions files of one split each.

    path: the folder, or its captions file. FileNotFoundError or UserError if there are none or too many.
    """
    if path.is_file():
        in_subfolder = path.parent.name in SUBFOLDERS and path.suffix.lower() in JSON
        return path.parent.parent if in_subfolder else path.parent, [path]
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} not found: --dataset_dir must name a folder as in docs/data.md, or its captions file"
        )
    for name in KNOWN_NAMES:
        if (path / name).is_file():
            return path, [path / name]
    json_folders = (path, *(path / name for name in SUBFOLDERS))
    for folder, endings in (*((folder, JSON) for folder in json_folders), (path, CSV)):
        if files := _files(folder, endings):
            return path, _one_or_one_per_split(folder, files)
    raise without_captions(path)


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of a folder with these endings, in upper or lower case."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in endings and path.is_file())


def _one_or_one_per_split(folder: Path, files: list[Path]) -> list[Path]:
    """The files if there is one, or if all are named like a split. UserError otherwise."""
    if len(files) == 1 or all(split_in_name(file) for file in files):
        return files
    names = ", ".join(file.name for file in files)
    raise UserError(
        f"{folder} must hold one captions file, or one per split (captions_train.json), got {names}: name "
        f"the right one, for example --dataset_dir {files[0]}"
    )


def split_in_name(path: Path) -> str | None:
    """The split that a file name contains as a word (`captions_train2017`); None without or with several."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)
    splits = {split for word in words if (split := split_of(word))}
    return splits.pop() if len(splits) == 1 else None


def read_captions_file(path: Path) -> Any:
    """The content of a captions file; the lines of JSON Lines and the rows of a table as a list."""
    if path.suffix.lower() in CSV:
        return [_row(row) for row in read_csv(path, REMEDY)]
    if path.suffix.lower() == ".jsonl":
        lines = enumerate(read_text(path, REMEDY).split("\n"), 1)
        return [parse_json(line, f"{path}, line {number},", REMEDY) for number, line in lines if line.strip()]
    return read_json(path, REMEDY)


def _row(cells: dict) -> dict:
    """A row of a table, with the known columns under their names whatever their case."""
    known = {column.lower(): column for column in COLUMNS}
    return {known.get(name.lower(), name): cell for name, cell in cells.items()}
