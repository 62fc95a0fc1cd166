"""Dataset folders as lists of pairs: SECOND-CC's layout and LEVIR-MCI's, every rule of the JSON checked here.

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
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which UTF-8 has no bytes for
FORM = "give the data set's annotations, README.md shows their form"
MOST_SENTENCES = 1000  # each split keeps a table of its pairs times its most sentences
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
SECOND_CC_NO_CHANGE = NO_CHANGE_SENTENCES[:5]  # the others are LEVIR-CC's spelling of two


@dataclass(frozen=True)
class Pair:
    """One pair of a dataset: where its images are and what people said about it."""

    filename: str
    split: str  # train, val or test
    views: tuple[Path | None, ...]  # four, in the order of VIEWS; None: a void map
    captions: tuple[tuple[str, ...], ...]  # the words of each sentence
    raw: tuple[str, ...]  # the same sentences as written
    changed: bool
    augmented: bool
    label: Path | None = None  # LEVIR-MCI: its building and road label stands for the map of the second date
    wordless: int = 0  # sentences left out because they hold no word
    flagged: bool = True  # the JSON has the pair's `changeflag`; else `changed` follows from its captions
    source: str | None = None  # the image it was cut from; None where neither the JSON nor the name tells


def read_pairs(dataset_dir: str | Path) -> list[Pair]:
    """All pairs of a dataset folder, in the order of its JSON; `restval` counts as train.

    FileNotFoundError where the folder, its JSON or an image is absent; UserError if the JSON breaks a rule.
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
                    f"{path} not found: {annotations.name} lists {pair.filename}{_namesakes(path)}"
                )
    return pairs


def _namesakes(path: Path) -> str:
    """The files beside an absent one that have its name but for capitals and the ending, for messages."""
    found = [other.name for other in path.parent.glob("*") if other.stem.lower() == path.stem.lower()]
    return f", {found[0]} is there: name them alike" if found else ""


def parse_pairs(root: Path, annotations: Path) -> list[Pair]:
    """The pairs that a JSON describes, whether or not their images stand in `root`; UserError as above."""
    pairs = []
    for number, entry in enumerate(read_entries(annotations)):
        try:
            pairs.append(_pair(root, entry))
        except ValueError as error:
            raise UserError(f"{annotations}: images[{number}]{_name(entry)}: {error}") from None
    counts = Counter((pair.split, pair.filename) for pair in pairs)
    for (split, filename), count in counts.items():
        if count > 1:
            raise UserError(f"{annotations}: {filename} must stand once in {split}, found {count} times")
    return pairs


def find_annotations(root: Path) -> Path:
    """The JSON of a dataset folder: one of the known names, else the only *.json there."""
    for name in ("SECOND-CC-AUG.json", "LevirCCcaptions.json"):
        if (root / name).is_file():
            return root / name
    found = sorted(root.glob("*.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{root} holds no *.json: the captions belong in {root / 'SECOND-CC-AUG.json'}"
        )
    names = ", ".join(path.name for path in found)
    raise UserError(f"{root} must hold one *.json, got {names}: name the right one SECOND-CC-AUG.json")


def read_entries(annotations: Path) -> list:
    """The list `images` of a JSON file. UserError where the file is not JSON or has no such list."""
    content = read_json(annotations, FORM)
    entries = content.get("images") if isinstance(content, dict) else None
    if entries and "annotations" in content:
        raise UserError(
            f"{annotations} has `annotations`, as COCO's captions files do: give each entry of `images` its "
            "`filename`, `split` and `sentences` (README.md shows the form)"
        )
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{annotations} must hold an object with a non-empty list `images`: {FORM}")
    return entries


def changed_as_authors(captions: Sequence[str]) -> bool:
    """The released code's rule for a pair's stored captions: the second is none of five sentences."""
    return captions[:2][-1] not in SECOND_CC_NO_CHANGE


def mostly_no_change(captions: Sequence[str], no_change: Sequence[str]) -> bool:
    """Whether more than half of a pair's captions say that nothing has changed."""
    return sum(caption in no_change for caption in captions) > len(captions) / 2


def tile_source(filename: str) -> str | None:
    """The image that a tile was cut from: its name without one or two last numbers, `00003_0_256` -> `00003`.

    None if there is no number at the end, or none left to name an image (`test_000656`).
    """
    match = re.fullmatch(r"(.*?\d.*?)([_-]\d+){1,2}", original_name(filename))
    return match[1] if match else None


def original_name(filename: str) -> str:
    """The name without its ending and without the mark of an augmented copy."""
    return PurePath(filename).stem.partition("_random_augment")[0]


def source_of(filename: str, source: str | None = None) -> str:
    """The source image of a pair: `source`, else what its name tells, else the pair itself.

    A pair and its augmented copies have the same.
    """
    return source or tile_source(filename) or original_name(filename)


def split_into_words(sentence: str) -> tuple[str, ...]:
    """Lower-case, punctuation dropped, split at blanks: the words of a sentence without `tokens`."""
    return tuple("".join(c for c in sentence.lower() if unicodedata.category(c)[0] not in "PS").split())


def _pair(root: Path, entry: object) -> Pair:
    """One entry of `images`. UserError says which rule it breaks."""
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
    """UserError where `name` does not name a file or folder inside the data set's folder."""
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise UserError(f"`{key}` must be a name of 1 to 255 characters, got {shortened(name)}")
    _check_text(name, key)
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise UserError(
            f"`{key}` must be a path inside the data set's folder, got {name!r}: make it relative, without .."
        )


def _check_text(text: str, key: str) -> None:
    """UserError where `text` holds what neither a file name nor an HDF5 file can."""
    if stranger := UNSTORABLE.search(text):
        raise UserError(f"`{key}` must be plain text, got the character {stranger[0]!a}: remove it")


def _folder(root: Path, entry: dict) -> str:
    """The folder of an entry's split: `filepath`, else `split`, where restval may live in train."""
    folder = entry.get("filepath") or entry["split"]
    _check_name(folder, "filepath")
    homeless = not (root / folder).is_dir() and not (root / "images" / folder).is_dir()
    return "train" if folder == "restval" and homeless else folder


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
    """Raw text and words of the sentences that have words, and how many have none."""
    if not isinstance(sentences, list) or not sentences:
        raise UserError("a pair needs captions: `sentences` must be a non-empty list")
    if len(sentences) > MOST_SENTENCES:
        raise UserError(f"a pair has at most {MOST_SENTENCES} sentences, got {len(sentences)}")
    both = [_sentence(sentence) for sentence in sentences]
    spoken = [(raw, words) for raw, words in both if words]
    if not spoken:
        raise UserError(f"a pair needs captions: none of its {len(sentences)} sentences has a word")
    return tuple(raw for raw, _ in spoken), tuple(words for _, words in spoken), len(both) - len(spoken)


def _sentence(sentence: object) -> tuple[str, tuple[str, ...]]:
    """Raw text and words of one sentence, either of them made from the other where it is absent."""
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
    words = tuple(" ".join(tokens).split())  # a token with blanks in it is several words
    return raw if raw is not None else " ".join(words), words


def _changed(changeflag: object, captions: tuple[tuple[str, ...], ...]) -> bool:
    """The JSON's flag; without one, whether most captions are none of NO_CHANGE_SENTENCES."""
    if changeflag is not None:
        if changeflag not in (0, 1):
            raise UserError(f"`changeflag` must be 0 or 1, got {shortened(changeflag)}")
        return bool(changeflag)
    return not mostly_no_change([" ".join(words) for words in captions], NO_CHANGE_SENTENCES)


def _name(entry: object) -> str:
    """The file name of an entry in brackets, for messages."""
    filename = entry.get("filename") if isinstance(entry, dict) else None
    return f" ({filename:.100})" if isinstance(filename, str) else ""
