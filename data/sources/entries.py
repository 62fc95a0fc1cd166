"""Make pairs of the entries of a captions file, which all have the keys of LEVIR-CC's JSON."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from reprlib import repr as shortened
from typing import Any, NamedTuple

from data.errors import UserError
from data.sources.image_files import ImageFiles
from data.sources.pair import SPLIT_OF, Pair, split_of, tile_source
from data.sources.words import (
    NO_CHANGE_SENTENCES,
    UNSTORABLE,
    captions_of,
    check_text,
    mostly_no_change,
)

OTHER_KEYS = ("captions", "caption", "sentence", "text", "texts", "raw")  # of captions, a mistake
OTHER_SPLIT = ("names of splits read as train, val or test", "check them")


class Entry(NamedTuple):
    """One pair of a captions file, not validated.

    fields: `filename`, `split`, `filepath`, `sentences`, `changeflag` and `source` as in LEVIR-CC's JSON. If
    `files` is there, it has the paths of the four views (None: void), and `filename` is only a name.
    """

    place: str  # where the entry is in the file, for messages: "images[3] (0004.png)"
    fields: dict[str, Any]


def pairs_of(annotations: Path, entries: Sequence[Entry], images: ImageFiles) -> list[Pair]:
    """The pairs of a captions file, with or without captions. UserError names the first invalid entry."""
    pairs, errors = [], []
    for entry in entries:
        try:
            pairs.append(_pair(entry.fields, images))
        except UserError as error:
            errors.append(f"{entry.place}: {error}")
    if errors:
        more = f" ({len(errors) - 1} more entries are invalid)" if len(errors) > 1 else ""
        raise UserError(f"{annotations}: {errors[0]}{more}")
    return pairs


def _pair(fields: dict[str, Any], images: ImageFiles) -> Pair:
    """The pair of an entry. UserError names the rule that an invalid entry breaks."""
    if not isinstance(fields, dict):
        raise UserError(f"an entry must be an object, got {shortened(fields)}")
    filename, source = fields.get("filename"), fields.get("source")
    _check_name(filename, "filename")
    split = _split(fields.get("split"), images)
    if source is not None and (not isinstance(source, str) or not source or UNSTORABLE.search(source)):
        raise UserError(f"`source` must name the image that a pair was cut from, got {shortened(source)}")
    views, label = _image_paths(fields, images)
    _check_captions_key(fields)
    raw, captions, wordless = captions_of(fields.get("sentences"))
    return Pair(
        filename=filename,
        split=split,
        views=views,
        captions=captions,
        raw=raw,
        changed=_changed(fields.get("changeflag"), captions),
        augmented="_random_augment" in filename,
        label=label,
        wordless=wordless,
        flagged=fields.get("changeflag") is not None,
        source=source or tile_source(filename),
    )


def _check_captions_key(fields: dict[str, Any]) -> None:
    """Raise UserError if an entry has its captions under another key than `sentences`."""
    others = [key for key in OTHER_KEYS if key in fields]
    if fields.get("sentences") is None and others:
        raise UserError(
            f"captions must be under `sentences`, got `{others[0]}`: write "
            '`"sentences": [{"raw": "a house appears"}]`'
        )


def _split(name: object, images: ImageFiles) -> str:
    """The split that an entry names, in any case; UserError if it names none."""
    split = split_of(name) if isinstance(name, str) else None
    if split is None:
        raise UserError(
            f"`split` must be one of {', '.join(SPLIT_OF)}, got {shortened(name)}: give it, or write one "
            "captions file per split, such as captions_train.json"
        )
    if name not in SPLIT_OF:
        images.warnings.add(OTHER_SPLIT, f"{name} as {split}")
    return split


def _check_name(name: object, key: str) -> None:
    """Raise UserError unless `name` is a path inside the data set's folder."""
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise UserError(f"`{key}` must be a name of 1 to 255 characters, got {shortened(name)}")
    check_text(name, key)
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise UserError(
            f"`{key}` must be a path inside the data set's folder, got {name!r}: make it relative, without .."
        )


def _image_paths(fields: dict[str, Any], images: ImageFiles) -> tuple[tuple, Path | None]:
    """The four views (None: void) and, in LEVIR-MCI's layout, the label."""
    if "files" in fields:
        return tuple(name and images.listed(name) for name in fields["files"]), None
    name, folder = fields["filename"], fields.get("filepath") or fields["split"]
    _check_name(folder, "filepath")
    folders = images.pair_folders(folder)
    paths = [path and images.file(path, name) for path in folders[1:]]
    return tuple(paths[:4]), paths[4]


def _changed(changeflag: object, captions: tuple[tuple[str, ...], ...]) -> bool:
    """The JSON's flag; without a flag, whether at most half of the captions are NO_CHANGE_SENTENCES."""
    if changeflag is not None:
        if changeflag not in (0, 1):
            raise UserError(f"`changeflag` must be 0 or 1, got {shortened(changeflag)}")
        return bool(changeflag)
    return not mostly_no_change([" ".join(words) for words in captions], NO_CHANGE_SENTENCES)
