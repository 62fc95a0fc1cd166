"""Shared by the forms of captions files that give the paths of both images, one caption or more a row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from reprlib import repr as shortened
from typing import Any

from data.errors import UserError
from data.sources.entries import Entry
from data.sources.pair import split_of
from data.sources.words import check_text


@dataclass(frozen=True)
class Row:
    """A row of a captions file, not validated: the files of a pair, some of its captions and other fields."""

    place: str  # where the row is in the file, for messages
    files: tuple[Any, ...]  # four, in the order of VIEWS; None: a void map
    captions: Sequence[Any]
    split: Any = None
    changeflag: Any = None
    source: Any = None

    def common(self) -> dict[str, Any]:
        """What all rows of a pair must have in common."""
        return {
            "files": self.files,
            "split": self.split,
            "changeflag": self.changeflag,
            "source": self.source,
        }


def has_keys(content: Any, *keys: str) -> bool:
    """Whether `content` is a list of objects of which the first has the keys."""
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        return False
    return bool(content) and all(key in content[0] for key in keys)


def split_in_path(path: Any) -> str | None:
    """The split that a folder of the path is named like: `test/A/000001.png` -> test."""
    folders = PurePath(path).parent.parts if isinstance(path, str) else ()
    return next(filter(None, map(split_of, folders)), None)


def grouped(rows: Iterable[Row]) -> list[Entry]:
    """An entry for each pair of images, in the order of their first rows. UserError if its rows disagree."""
    by_images: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        _check_files(row)
        by_images.setdefault(row.files[:2], []).append(row)
    groups = list(by_images.values())
    return [_entry(name, group) for name, group in zip(_names(groups), groups, strict=True)]


def _check_files(row: Row) -> None:
    """Raise UserError unless a row names two images, and both maps, the second one or none."""
    for name in row.files:
        if name is not None and not isinstance(name, str):
            raise UserError(f"{row.place}: an image must be given by its path, got {shortened(name)}")
        check_text(name or "", "path")
    before, after, map_before, map_after = row.files
    if not before or not after or (map_before and not map_after):
        raise UserError(
            f"{row.place}: a pair needs the paths of two images, and of both maps, the second map or none, "
            f"got {shortened(row.files)}"
        )


def _entry(name: str, rows: list[Row]) -> Entry:
    """The entry of the rows of one pair."""
    common = rows[0].common()
    for row in rows[1:]:
        for key, value in row.common().items():
            if value != common[key]:
                raise UserError(
                    f"{row.place}: all rows of a pair must have the same {key}, got {shortened(value)}, and "
                    f"{shortened(common[key])} in {rows[0].place}"
                )
    sentences = [{"raw": caption} for row in rows for caption in row.captions]
    return Entry(f"{rows[0].place} ({name:.100})", {**common, "filename": name, "sentences": sentences})


def _names(groups: Sequence[list[Row]]) -> list[str]:
    """A name for each pair that is unique in its split: the first file's name, its path, or both paths."""
    pairs = [tuple(map(_inner_path, rows[0].files[:2])) for rows in groups]
    forms = (
        [PurePath(before).name for before, _ in pairs],
        [before for before, _ in pairs],
        [f"{before} {after}" for before, after in pairs],
    )
    splits = [str(rows[0].split) for rows in groups]
    for names in forms:
        if len(set(zip(splits, names, strict=True))) == len(names):
            return names
    return forms[-1]


def _inner_path(path: str) -> str:
    """A path without its root and without `..`."""
    pure = PurePath(path.replace("\\", "/"))
    return "/".join(part for part in pure.parts if part not in (pure.anchor, ".."))
