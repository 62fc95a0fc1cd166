"""Checks of all pairs of a data set: names, captions, image files and maps."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError
from data.sources.image_files import ImageFiles
from data.sources.pair import SPLITS, Pair, Warnings, first_few

UNCAPTIONED = ("test pairs without captions, which are left out", "caption.py --pairs captions them")
MOST_NAMES = 100  # of pairs without captions in a message


def check_names(annotations: str, pairs: Sequence[Pair]) -> None:
    """Raise UserError if a name occurs more than once in a split."""
    counts = Counter((pair.split, pair.filename) for pair in pairs)
    repeated = [(split, name, count) for (split, name), count in counts.items() if count > 1]
    if repeated:
        split, name, count = repeated[0]
        more = f" ({len(repeated) - 1} more names are repeated)" if len(repeated) > 1 else ""
        raise UserError(f"{annotations}: {name} must occur once in {split}, got {count} times{more}")


def with_captions(annotations: str, pairs: Sequence[Pair], warnings: Warnings) -> list[Pair]:
    """The pairs that have captions; those of test may have none, which is warned of.

    UserError if pairs of train or val have no captions, or no pair has any.
    """
    without = [pair for pair in pairs if not pair.captions]
    needed = [f"{pair.split} {pair.filename}" for pair in without if pair.split != "test"]
    if needed:
        raise UserError(
            f"{annotations}: a pair of train or val needs captions (`sentences` with words), missing for "
            f"{len(needed)}: {first_few(needed, MOST_NAMES)}: add captions, or remove the pairs"
        )
    if len(without) == len(pairs):
        raise UserError(
            f"{annotations} must hold captions, got none for {len(pairs)} pairs: to caption them with a "
            "trained model, use caption.py --pairs"
        )
    for pair in without:
        warnings.add(UNCAPTIONED, pair.filename)
    return [pair for pair in pairs if pair.captions]


def check_files(annotations: str, pairs: Sequence[Pair], images: ImageFiles) -> None:
    """Raise FileNotFoundError if images are missing, UserError if two pairs of a split are the same files."""
    missing = []
    for pair in pairs:
        missing += [(path, pair) for path in (*pair.views, pair.label) if path and not path.is_file()]
    if missing:
        raise FileNotFoundError(_missing_files(annotations, missing, images))
    _check_distinct(annotations, pairs, images)


def _missing_files(annotations: str, missing: Sequence[tuple[Path, Pair]], images: ImageFiles) -> str:
    """The message about missing images."""
    path, pair = missing[0]
    if len(missing) == 1:
        problem = f"{path} not found: {annotations} lists {pair.filename}"
    else:
        names = first_few([images.relative(path) for path, _ in missing])
        count = len({(pair.split, pair.filename) for _, pair in missing})
        problem = f"{len(missing)} images of {count} pairs not found in {images.root}: {names}"
    remedy = "complete the data set" if path.parent.is_dir() else "rename the folder, complete the data set"
    return f"{problem}; {images.beside(path)}: {remedy}, or correct {annotations}"


def _check_distinct(annotations: str, pairs: Sequence[Pair], images: ImageFiles) -> None:
    """Raise UserError if two pairs of a split have the same images: one was found by a similar name."""
    names = {}
    for pair in pairs:
        first = names.setdefault((pair.split, *pair.views[:2]), pair.filename)
        if first != pair.filename:
            raise UserError(
                f"{annotations}: each pair of {pair.split} must have other images, got "
                f"{images.relative(pair.views[0])} for {first} and {pair.filename}: correct the names"
            )


def check_maps(pairs: Sequence[Pair], images: ImageFiles) -> None:
    """Raise UserError if some splits have maps of a date and others have none."""
    for date, name in ((2, "first"), (3, "second")):
        have = [pair for pair in pairs if pair.views[date] or (date == 3 and pair.label)]
        with_maps = {pair.split for pair in have}
        without = [pair for pair in pairs if pair.split not in with_maps]
        if with_maps and without:
            raise UserError(
                f"all splits or none must have maps of the {name} date, got them for {_splits(have)}, none "
                f"for {_splits(without)} ({images.maps_of(without[0].views[1].parent)}): add them, or move "
                "the maps of all splits away"
            )


def _splits(pairs: Sequence[Pair]) -> str:
    """The splits of pairs, in order: "train and val"."""
    present = {pair.split for pair in pairs}
    return " and ".join(split for split in SPLITS if split in present)
