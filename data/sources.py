"""Read the pairs of a dataset folder, in the layout of SECOND-CC or LEVIR-MCI, and validate its JSON.

SECOND-CC   SECOND-CC-AUG.json    {train,val,test}/{rgb,sem}/{A,B}/<filename>
LEVIR-MCI   LevirCCcaptions.json  images/{train,val,test}/{A,B,label}/<filename>

Without `sem` or `label` (LEVIR-CC) both maps of a pair are void.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from reprlib import repr as shortened

from data.errors import UserError
from data.json_file import read_json

SPLITS = ("train", "val", "test")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which UTF-8 cannot encode
FORM = "give the data set's annotations, docs/data.md shows their form"
MOST_SENTENCES = 1000  # bounds the table of references of a split, pairs x most sentences
SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}

NO_CHANGE_SENTENCES = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
    "no change is occurred",
    "almost nothing is changed",
    "no change has occurred",
    "almost nothing has changed",
)
SECOND_CC_NO_CHANGE = NO_CHANGE_SENTENCES[:5]  # the others are LEVIR-CC's spellings of two of them


@dataclass(frozen=True)
class Pair:
    """One pair of a dataset: its image files and captions."""

    filename: str
    split: str  # train, val or test
    views: tuple[Path | None, ...]  # four, in the order of VIEWS; None: a void map
    captions: tuple[tuple[str, ...], ...]  # the words of each sentence
    raw: tuple[str, ...]  # the same sentences as written
    changed: bool
    augmented: bool
    label: Path | None = None  # LEVIR-MCI: building and road label, used as the map of the second date
    wordless: int = 0  # number of sentences left out because they have no words
    flagged: bool = True  # whether the JSON has a `changeflag`; else `changed` follows from the captions
    source: str | None = None  # the image it was cut from; None if unknown


def read_pairs(dataset_dir: str | Path) -> list[Pair]:
    """All pairs of a dataset folder, in the order of its JSON; `restval` counts as train.

    Raises FileNotFoundError if the folder, its JSON or an image is missing, UserError if the JSON is invalid.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} not found: --dataset_dir must name a folder in SECOND-CC's layout")
    annotations = find_annotations(root)
    pairs = parse_pairs(root, annotations)
    for pair in pairs:
        for path in (*pair.views, pair.label):
            if path is not None and not path.is_file():
                raise FileNotFoundError(
                    f"{path} not found: {annotations.name} lists {pair.filename}{_similar_name_hint(path)}"
                )
    return pairs


def _similar_name_hint(path: Path) -> str:
    """A hint for messages: a file whose name differs from a missing one's in case or suffix only."""
    similar = [other.name for other in path.parent.glob("*") if other.stem.lower() == path.stem.lower()]
    return f", but {similar[0]} exists: use the same name" if similar else ""


def parse_pairs(root: Path, annotations: Path) -> list[Pair]:
    """The pairs in a JSON file, whether or not their images exist in `root`. UserError as in `read_pairs`."""
    pairs = []
    for number, entry in enumerate(read_entries(annotations)):
        try:
            pairs.append(_pair(root, entry))
        except ValueError as error:
            raise UserError(f"{annotations}: images[{number}]{_name(entry)}: {error}") from None
    counts = Counter((pair.split, pair.filename) for pair in pairs)
    for (split, filename), count in counts.items():
        if count > 1:
            raise UserError(f"{annotations}: {filename} must occur once in {split}, got {count} times")
    return pairs


def find_annotations(root: Path) -> Path:
    """The JSON of a dataset folder: a file with a known name, else the only *.json."""
    for name in ("SECOND-CC-AUG.json", "LevirCCcaptions.json"):
        if (root / name).is_file():
            return root / name
    files = sorted(root.glob("*.json"))
    if len(files) == 1:
        return files[0]
    if not files:
        raise FileNotFoundError(
            f"{root} holds no *.json: the captions belong in {root / 'SECOND-CC-AUG.json'}"
        )
    names = ", ".join(path.name for path in files)
    raise UserError(f"{root} must hold one *.json, got {names}: name the right one SECOND-CC-AUG.json")


def read_entries(annotations: Path) -> list:
    """The list `images` of a JSON file. UserError if the file is not JSON or has no such list."""
    content = read_json(annotations, FORM)
    entries = content.get("images") if isinstance(content, dict) else None
    if entries and "annotations" in content:
        raise UserError(
            f"{annotations} has `annotations`, as COCO's captions files do: give each entry of `images` its "
            "`filename`, `split` and `sentences` (docs/data.md shows the form)"
        )
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{annotations} must hold an object with a non-empty list `images`: {FORM}")
    return entries


def changed_as_authors(captions: Sequence[str]) -> bool:
    """The authors' rule: a pair is changed if its second stored caption is none of five sentences."""
    return captions[:2][-1] not in SECOND_CC_NO_CHANGE


def mostly_no_change(captions: Sequence[str], no_change: Sequence[str]) -> bool:
    """Whether more than half of a pair's captions are no-change sentences."""
    return sum(caption in no_change for caption in captions) > len(captions) / 2


def tile_source(filename: str) -> str | None:
    """The image that a tile was cut from: `00003_0_256` -> `00003`, without the last one or two numbers.

    None if the name has no number at the end, or no other number (`test_000656`).
    """
    match = re.fullmatch(r"(.*?\d.*?)([_-]\d+){1,2}", original_name(filename))
    return match[1] if match else None


def original_name(filename: str) -> str:
    """The name without its suffix and without the mark of an augmented copy."""
    return PurePath(filename).stem.partition("_random_augment")[0]


def source_of(filename: str, source: str | None = None) -> str:
    """The source image of a pair: `source`, else derived from the file name, else the name of the pair.

    A pair and its augmented copies have the same source.
    """
    return source or tile_source(filename) or original_name(filename)


def split_into_words(sentence: str) -> tuple[str, ...]:
    """The lower-case words of a sentence without punctuation and symbols, for sentences without `tokens`."""
    letters = [char for char in sentence.lower() if unicodedata.category(char)[0] not in "PS"]
    return tuple("".join(letters).split())


def _pair(root: Path, entry: object) -> Pair:
    """The pair of one entry of `images`. UserError names the rule that an invalid entry breaks."""
    if not isinstance(entry, dict):
        raise UserError(f"an entry must be an object, got {shortened(entry)}")
    filename = entry.get("filename")
    _check_name(filename, "filename")
    split = entry.get("split")
    if not isinstance(split, str) or split not in SPLIT_OF:
        raise UserError(f"`split` must be one of {', '.join(SPLIT_OF)}, got {shortened(split)}")
    source = entry.get("source")
    if source is not None and (not isinstance(source, str) or not source or UNSTORABLE.search(source)):
        raise UserError(f"`source` must name the image that a pair was cut from, got {shortened(source)}")
    views, label = _image_paths(root, _folder(root, entry), filename)
    raw, captions, wordless = _captions(entry.get("sentences"))
    return Pair(
        filename=filename,
        split=SPLIT_OF[split],
        views=views,
        captions=captions,
        raw=raw,
        changed=_changed(entry.get("changeflag"), captions),
        augmented="_random_augment" in filename,
        label=label,
        wordless=wordless,
        flagged=entry.get("changeflag") is not None,
        source=source or tile_source(filename),
    )


def _check_name(name: object, key: str) -> None:
    """Raise UserError unless `name` is a path inside the data set's folder."""
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise UserError(f"`{key}` must be a name of 1 to 255 characters, got {shortened(name)}")
    _check_text(name, key)
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise UserError(
            f"`{key}` must be a path inside the data set's folder, got {name!r}: make it relative, without .."
        )


def _check_text(text: str, key: str) -> None:
    """Raise UserError if `text` has a character that file names and HDF5 files cannot hold."""
    if match := UNSTORABLE.search(text):
        raise UserError(f"`{key}` must be plain text, got the character {match[0]!a}: remove it")


def _folder(root: Path, entry: dict) -> str:
    """The folder of an entry's images: `filepath`, else `split`; restval falls back to train."""
    folder = entry.get("filepath") or entry["split"]
    _check_name(folder, "filepath")
    exists = (root / folder).is_dir() or (root / "images" / folder).is_dir()
    return "train" if folder == "restval" and not exists else folder


def _image_paths(root: Path, folder: str, filename: str) -> tuple[tuple, Path | None]:
    """The four views (None: void) and, in LEVIR-MCI, the label."""
    second, levir = root / folder, root / "images" / folder
    if levir.is_dir() and not (second / "rgb").is_dir():
        label = levir / "label" / filename if (levir / "label").is_dir() else None
        return (levir / "A" / filename, levir / "B" / filename, None, None), label
    rgb = [second / "rgb" / date / filename for date in "AB"]
    sem = [second / "sem" / date / filename if (second / "sem" / date).is_dir() else None for date in "AB"]
    if (second / "sem").is_dir() and sem[1] is None:
        raise UserError(f"{second / 'sem' / 'B'} not found: maps belong in sem/A and sem/B, masks in sem/B")
    return (*rgb, *sem), None


def _captions(sentences: object) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], int]:
    """Raw text and words of the sentences that have words, and the number of sentences without words."""
    if not isinstance(sentences, list) or not sentences:
        raise UserError("a pair needs captions: `sentences` must be a non-empty list")
    if len(sentences) > MOST_SENTENCES:
        raise UserError(f"a pair has at most {MOST_SENTENCES} sentences, got {len(sentences)}")
    parsed = [_sentence(sentence) for sentence in sentences]
    captions = [(raw, words) for raw, words in parsed if words]
    if not captions:
        raise UserError(f"a pair needs captions: none of its {len(sentences)} sentences has a word")
    raw_texts, word_lists = zip(*captions, strict=True)
    return raw_texts, word_lists, len(parsed) - len(captions)


def _sentence(sentence: object) -> tuple[str, tuple[str, ...]]:
    """Raw text and words of one sentence; if one of them is missing, it is derived from the other."""
    if not isinstance(sentence, dict):
        raise UserError(f"a sentence must be an object with `tokens` or `raw`, got {shortened(sentence)}")
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    if raw is not None and not isinstance(raw, str):
        raise UserError(f"`raw` must be text, got {shortened(raw)}")
    _check_text(raw or "", "raw")
    if not tokens:
        if raw is None:
            raise UserError("a sentence needs `tokens` or `raw`")
        return raw, split_into_words(raw)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"`tokens` must be a list of words, got {shortened(tokens)}")
    _check_text(" ".join(tokens), "tokens")
    words = tuple(" ".join(tokens).split())  # a token with spaces is several words
    return raw if raw is not None else " ".join(words), words


def _changed(changeflag: object, captions: tuple[tuple[str, ...], ...]) -> bool:
    """The JSON's flag; without a flag, whether at most half of the captions are NO_CHANGE_SENTENCES."""
    if changeflag is not None:
        if changeflag not in (0, 1):
            raise UserError(f"`changeflag` must be 0 or 1, got {shortened(changeflag)}")
        return bool(changeflag)
    return not mostly_no_change([" ".join(words) for words in captions], NO_CHANGE_SENTENCES)


def _name(entry: object) -> str:
    """The file name of an entry in parentheses, for messages."""
    filename = entry.get("filename") if isinstance(entry, dict) else None
    return f" ({filename:.100})" if isinstance(filename, str) else ""
