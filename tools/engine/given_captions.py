"""Read captions that another program wrote, and find the pair that each of them describes by its file name.

A name may have more or fewer folders than that of the pair, and another or no suffix of an image, if it then
fits one pair: `/data/test/A/00001.tif` and `00001` can be the pair `00001.png`. A folder that is the name of
a split counts. Numbers, such as the ids of COCO's results, fit the names of pairs if all of them are numbers.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from reprlib import repr as shortened
from textwrap import shorten
from typing import NamedTuple

from data.errors import UserError
from data.json_file import read_table
from data.listing import listed
from data.pair_files import SUFFIXES, print_remark
from data.sources import SPLITS, split_into_words

NAMES = ("filename", "file_name", "image_id", "image", "img_a")  # keys of the file name, the first one counts
CAPTION = "caption"
FORMS = (
    "give captions.json of eval.py, a JSON list of objects with filename and caption, COCO's results (objects"
    " with image_id and caption), or a CSV file with the columns filename and caption"
)
FEW = 3  # maximum number of names in a message for each problem


class GivenCaption(NamedTuple):
    """A caption and the name that its file gives the pair."""

    name: str
    caption: str


class PairName(NamedTuple):
    """What identifies a pair."""

    split: str
    filename: str


def read_given_captions(path: Path) -> list[GivenCaption]:
    """The captions of a file in one of FORMS, in order; upper and lower case of keys are the same.

    Raises FileNotFoundError if the file is missing, UserError if it has another form.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file of the captions in it")
    rows = read_table(path, FORMS)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} must hold a list of objects, got {shortened(rows)}: {FORMS}")
    if not rows:
        raise UserError(f"{path} holds no caption: {FORMS}")
    return [_given_caption(f"{path}, caption {number}", row) for number, row in enumerate(rows, 1)]


def _given_caption(place: str, row: dict) -> GivenCaption:
    values = {str(key).strip().casefold(): value for key, value in row.items()}
    key = next((key for key in NAMES if key in values), None)
    if key is None or CAPTION not in values:
        keys = ", ".join(map(str, row))
        raise UserError(f"{place} must have {NAMES[0]} and {CAPTION}, got {shortened(keys)}: {FORMS}")
    name, caption = values[key], values[CAPTION]
    if type(name) is int:
        name = str(name)
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{place}: {key} must be the file name of a pair, got {shortened(name)}: correct it")
    if not isinstance(caption, str):
        raise UserError(f"{place}: {CAPTION} must be text, got {shortened(caption)}: give one sentence")
    return GivenCaption(name.strip(), caption)


def join_captions(given: Sequence[GivenCaption], pairs: Sequence[PairName], path: Path) -> list[str]:
    """The caption of each pair, in the order of `pairs`. A remark counts the names that are not quite equal.

    path: the file of `given`, for messages. UserError unless every pair has one caption, and every caption
    one pair.
    """
    finder = _PairFinder(pairs)
    captions, inexact, unknown, ambiguous = defaultdict(list), [], [], []
    for name, caption in given:
        matches = finder.find(name)
        if not matches:
            unknown.append(name)
        elif len(matches) > 1:
            ambiguous.append(f"{name} can be {' or '.join('/'.join(pair) for pair in matches[:FEW])}")
        else:
            captions[matches[0]].append(caption)
            if name != matches[0].filename:
                inexact.append(f"{name} is {matches[0].filename}")
    missing = [pair.filename for pair in pairs if pair not in captions]
    repeated = [pair.filename for pair, texts in captions.items() if len(texts) > 1]
    problems = (
        ("pairs without a caption", missing, "add them"),
        ("pairs with several captions", repeated, "keep one of each"),
        ("captions of no pair", unknown, _remedy(unknown, pairs)),
        ("ambiguous names", ambiguous, "write them as in the input files, or score one split at a time"),
    )
    lines = [f"{title}: {_listed(names)}, {remedy}" for title, names, remedy in problems if names]
    if lines:
        splits = " and ".join(dict.fromkeys(pair.split for pair in pairs))
        raise UserError(f"{path} must have one caption for each pair of {splits}; {'; '.join(lines)}")
    if inexact:
        print_remark(f"{path}: names that differ from those of the input files: {_listed(inexact)}")
    return [captions[pair][0] for pair in pairs]


def _remedy(unknown: Sequence[str], pairs: Sequence[PairName]) -> str:
    """What to do about captions of no pair."""
    example = pairs[0].filename
    if any(name.isdecimal() for name in unknown):
        return f"replace ids, which the input files do not have, by file names such as {example}"
    return f"remove them, write file names such as {example}, or choose another --split or --data.dir"


def _listed(names: Sequence[str]) -> str:
    """The number of names and the first few: "5 (a; b; c; ...)"."""
    return f"{len(names)} ({listed(names, FEW, '; ')})"


class _PairFinder:
    """Finds pairs by names that may have other folders and suffixes."""

    def __init__(self, pairs: Sequence[PairName]) -> None:
        self.parts = {pair: _parts(pair.filename) for pair in pairs}
        self.by_filename, self.by_stem, self.by_number = (defaultdict(list) for _ in range(3))
        for pair, parts in self.parts.items():
            self.by_filename[pair.filename].append(pair)
            self.by_stem[parts[-1]].append(pair)
        if all(stem.isdecimal() for stem in self.by_stem):
            for stem, of_stem in self.by_stem.items():
                self.by_number[int(stem)] += of_stem

    def find(self, name: str) -> list[PairName]:
        """The pairs that the name fits best; several if it is ambiguous."""
        if name in self.by_filename:
            return self.by_filename[name]
        parts = _parts(name)
        splits = {part for part in parts[:-1] if part in SPLITS} or set(SPLITS)
        fitting = []
        for pair in self.by_stem.get(parts[-1], []):
            if pair.split in splits and _same_end(parts, self.parts[pair]):
                fitting.append(pair)
        if not fitting and name.isdecimal():
            return self.by_number.get(int(name), [])
        return [pair for pair in fitting if self.parts[pair] == parts] or fitting


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file name of a path with slashes or backslashes, without the suffix of an image."""
    path = PureWindowsPath(name)
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.parts or (name,)


def _same_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter of two paths is the end of the longer one."""
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def as_words(captions: Sequence[str], known: Collection[str], path: Path) -> list[str]:
    """The captions as words separated by blanks, as references are. Remarks count those that change.

    known: words that are kept, such as those of the references; the others lose upper case and punctuation
    (`split_into_words`). path: the file of the captions, for remarks.
    """
    result = []
    for caption in captions:
        words = []
        for word in caption.split():
            words += [word] if word in known else split_into_words(word)
        result.append(" ".join(words))
    changed = [pair for pair in zip(captions, result, strict=True) if pair[0] != pair[1]]
    if changed:
        before, after = (shorten(text, 80) for text in changed[0])
        print_remark(
            f"{path}: {len(changed)} captions are scored in lower case without punctuation, as references "
            f'are ("{before}" as "{after}")'
        )
    if empty := result.count(""):
        print_remark(f"{path}: {empty} captions have no words")
    return result
