"""Refuse to score pairs without captions, with the command that captions them."""

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from data import hdf5
from data.errors import UserError
from data.settings import DataConfig
from data.splits import open_split

LAYOUTS = ("{split}/rgb", "images/{split}", "{split}")  # folders of A and B in a data set


def refuse_uncaptioned(splits: Sequence[str], data: DataConfig, checkpoint: Path | None) -> None:
    """Raise an error with the remedy if a split of `data.dir` cannot be scored.

    The remedy is the command of caption.py; without a checkpoint, to add captions. Raises FileNotFoundError
    if its input files are missing, as they are if no pair has captions, UserError if some pairs have none;
    other errors as in `open_split`.
    """
    for split in splits:
        remedy = "add captions to the data set and prepare it again"
        if checkpoint:
            remedy = f"caption them with {caption_command(split, data.dir, checkpoint)}"
        try:
            reader, rows = open_split(split, data)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; pairs without captions cannot be scored, {remedy}") from None
        without = [reader.filenames[row] for row in rows if not any(reader.references[row])]
        if without:
            raise UserError(
                f"{reader.path}: a pair needs a human caption to be scored, {len(without)} of {len(rows)} "
                f"have none (the first is {without[0]}): {remedy}"
            )


def caption_command(split: str, data_dir: str, checkpoint: Path) -> str:
    """The command that captions the images of a split, with placeholders if they are not found.

    The images are looked for in `data_dir` and in the data set that the input files in it were made from.
    """
    folders = ["FOLDER_A", "FOLDER_B"]
    for root in [Path(data_dir), *_dataset_of(Path(data_dir))]:
        for layout in LAYOUTS:
            images = [root / layout.format(split=split) / date for date in "AB"]
            if all(folder.is_dir() for folder in images):
                maps = [root / split / "sem" / date for date in "AB"]
                has_maps = all(folder.is_dir() for folder in maps)
                folders = [str(folder) for folder in (images + maps if has_maps else images)]
    return shlex.join(["python", "caption.py", *folders, "--checkpoint", str(checkpoint)])


def _dataset_of(folder: Path) -> list[Path]:
    """The data set folder that the input files in `folder` were made from, none if that is unknown."""
    for path in folder.glob("*.hdf5"):
        with suppress(UserError, KeyError, ValueError), hdf5.open_complete(path) as file:
            return [Path(json.loads(file.attrs["made_with"])["dataset_dir"])]
    return []
