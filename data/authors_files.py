"""The authors' input files: the same splits in the layout of the authors' code, written and read.

n pairs, k captions each, T = maximum caption length + 2; <SPLIT> is TRAIN, VAL or TEST:

    <SPLIT>_IMAGES_<name>.hdf5      images (n, 4, 3, H, W) uint8 in the order of VIEWS; captions_per_image (k)
    <SPLIT>_CAPTIONS_<name>.json    n * k lists of T ids: <start> words <end> <pad> ...
    <SPLIT>_CAPLENS_<name>.json     n * k lengths, with <start> and <end>
    WORDMAP_<name>.json             word -> id

The files contain no file names, flags or original sentences; these are joined, by order, from the JSON that
the files were made from.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from data.atomic_write import write_text
from data.errors import UserError
from data.hdf5 import (
    ProcessHandle,
    fingerprint_of,
    lacking_split,
    new_file,
    open_complete,
    references_of,
)
from data.json_file import read_json
from data.maps.settings import SECOND_MAPS, MapSettings
from data.no_change import no_change_of
from data.packed_maps import PackedViews
from data.palette import SECOND
from data.sources import NO_CHANGE_SENTENCES, SPLITS, Pair, mostly_no_change, parse_pairs, source_of
from data.vocabulary import PAD, Vocabulary

IMAGES = "{split}_IMAGES_{name}.hdf5"
CAPTIONS = "{split}_CAPTIONS_{name}.json"
LENGTHS = "{split}_CAPLENS_{name}.json"
WORD_MAP = "WORDMAP_{name}.json"
FORMS = (IMAGES, CAPTIONS, LENGTHS, WORD_MAP)

FINGERPRINTED = 64  # maximum number of pairs whose images enter the fingerprint

ONE_SET = "use files that were made together"
RIGHT_JSON = "data.annotations must name the JSON that the files were made from"


def input_files(folder: str | Path) -> list[Path]:
    """The files of this layout in a folder."""
    patterns = [form.format(split=split.upper(), name="*") for split in SPLITS for form in FORMS]
    files = []
    for pattern in dict.fromkeys(patterns):
        files += sorted(Path(folder).glob(pattern))
    return files


def write_split(
    folder: Path,
    split: str,
    *,
    pairs: Sequence[Pair],
    views: Iterable[np.ndarray],
    image_size: tuple[int, int],
    tokens: np.ndarray,
    lengths: np.ndarray,
    vocabulary: Vocabulary,
    settings: dict,
    no_change: Sequence[str],
    maps: MapSettings = SECOND_MAPS,
) -> None:
    """Write a split and the word map beside it; arguments as in `data.hdf5.write_split`.

    The file names contain SECOND_CC for every data set, as those of the authors' script do. `no_change` is
    not stored. UserError for another palette than SECOND's, which these files cannot store.
    """
    if maps.palette != SECOND:
        raise UserError(
            "the authors' files store no palette and mean SECOND's, this data set has "
            f"{maps.palette.listed()}: leave --format released out"
        )
    name = "SECOND_CC_{captions_per_image}_cap_per_img_{min_word_freq}_min_word_freq".format(**settings)
    images, captions, caption_lengths, word_map = (
        folder / form.format(split=split.upper(), name=name) for form in FORMS
    )
    ids = vocabulary.to_word_map()
    ids[PAD] = ids.pop(PAD)  # last, as in the authors' script
    write_text(word_map, json.dumps(ids))
    write_text(captions, json.dumps(tokens.reshape(-1, tokens.shape[-1]).tolist()))
    write_text(caption_lengths, json.dumps(lengths.flatten().tolist()))
    with new_file(images) as file:
        file.attrs["captions_per_image"] = tokens.shape[1]
        stored = file.create_dataset("images", (len(pairs), 4, 3, *image_size), np.uint8)
        for index, four in zip(range(len(pairs)), views, strict=True):
            stored[index] = four


class AuthorsReader:
    """A split of the authors' files with the interface of `SplitReader`.

    With `annotations`, the data set's JSON, it provides file names, flags and references, and
    `has_human_words` is True; without it see `nameless_pairs`. no_change: the sentences that mean "nothing
    has changed"; defaults to those of the JSON, or to NO_CHANGE_SENTENCES without it.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        annotations: str | Path | None = None,
        no_change: Sequence[str] | None = None,
    ) -> None:
        """FileNotFoundError if a file is missing; UserError if the files or the JSON do not match."""
        self.path = _only(folder, IMAGES.format(split=split.upper(), name="*"))
        self.vocabulary = read_word_map(_only(folder, WORD_MAP.format(name="*")))
        self._handle = ProcessHandle(self.path)
        with open_complete(self.path) as file:
            count, per_pair, self.image_size = _image_shape(file, self.path)
        self.tokens, self.lengths = _read_captions(self.path, self.vocabulary, count, per_pair)
        self.fingerprint = self._fingerprint()
        self.maps, self.metres_per_pixel = SECOND_MAPS, None  # not stored in the authors' files
        self.has_human_words = bool(annotations)
        if annotations:
            described = read_annotations(Path(annotations))
            self.no_change = tuple(no_change_of(described) if no_change is None else no_change)
            pairs = joined_pairs(described, Path(annotations), split, self)
        else:
            self.no_change = tuple(NO_CHANGE_SENTENCES if no_change is None else no_change)
            pairs = nameless_pairs(split, self)
        self.filenames = [pair.filename for pair in pairs]
        self.sources = [source_of(pair.filename, pair.source) for pair in pairs]
        self.references = references_of(pairs)
        self.raw = [list(pair.raw) for pair in pairs]
        self.changed = np.array([pair.changed for pair in pairs])
        self.augmented = np.array([pair.augmented for pair in pairs])

    def __len__(self) -> int:
        return len(self.tokens)

    def views(self, index: int) -> np.ndarray:
        """The images of a pair: (4, 3, H, W) uint8 in the order of VIEWS."""
        return self._handle.open()["images"][index]

    def packed_views(self, index: int) -> PackedViews:
        """Images and maps of a pair as stored in the file."""
        views = self.views(index)
        return PackedViews(views[:2], views[2:])

    def all_packed(self, rows: Sequence[int]) -> bool:
        """Whether the maps of these pairs are known to be in the palette."""
        return False

    def _fingerprint(self) -> str:
        """Hash of words, captions and the images of some pairs; reading all images would take minutes."""
        content = hashlib.sha256(fingerprint_of(self.vocabulary).encode())
        content.update(json.dumps([self.tokens.shape, self.image_size]).encode())
        content.update(self.tokens.tobytes() + self.lengths.tobytes())
        for index in range(0, len(self), 1 + len(self) // FINGERPRINTED):
            content.update(self.views(index).tobytes())
        return content.hexdigest()


def nameless_pairs(split: str, reader: AuthorsReader) -> list[Pair]:
    """The pairs as described by the files alone.

    A pair is named by its index ("test_000012"). Its captions are the k stored ones, including repeats and
    `<unk>`. It counts as unchanged if most of them are among `reader.no_change`, and as not augmented.
    """
    pairs = []
    for index, tokens in enumerate(reader.tokens):
        stored = tuple(reader.vocabulary.decode(ids) for ids in tokens)
        pairs.append(
            Pair(
                filename=f"{split}_{index:06d}",
                split=split,
                views=(None,) * 4,
                captions=tuple(tuple(caption.split()) for caption in stored),
                raw=stored,
                changed=not mostly_no_change(stored, reader.no_change),
                augmented=False,
                flagged=False,
            )
        )
    return pairs


def read_annotations(annotations: Path) -> list[Pair]:
    """All pairs in the data set's JSON."""
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations} not found: data.annotations names the JSON of the data set")
    return parse_pairs(annotations.parent, annotations)


def joined_pairs(
    described: Sequence[Pair], annotations: Path, split: str, reader: AuthorsReader
) -> list[Pair]:
    """The pairs of the JSON `annotations` in the order of the split's images.

    The authors' script skips pairs whose captions are all too long. Raises UserError if a stored caption is
    not among the sentences of its pair, or if the numbers of pairs differ.
    """
    pairs = [pair for pair in described if pair.split == split and _encodings(pair, reader)]
    for index, (pair, stored) in enumerate(zip(pairs, reader.tokens.tolist(), strict=False)):
        encodings = _encodings(pair, reader)
        for ids in stored:
            if ids not in encodings:
                raise UserError(
                    f'{reader.path}: "{reader.vocabulary.decode(ids)}" of pair {index} must be a sentence of '
                    f"{pair.filename} in {annotations}: {RIGHT_JSON}"
                )
    if len(pairs) != len(reader):
        raise UserError(
            f"{reader.path} holds {len(reader)} pairs, {annotations} describes {len(pairs)}: {RIGHT_JSON}"
        )
    return pairs


def _encodings(pair: Pair, reader: AuthorsReader) -> list[list[int]]:
    """The ids of the sentences of a pair that are not too long, including sentences without words."""
    longest = reader.tokens.shape[-1] - 2
    sentences = [*pair.captions, *[()] * pair.wordless]
    return [reader.vocabulary.encode(words, longest) for words in sentences if len(words) <= longest]


def read_word_map(path: Path) -> Vocabulary:
    """The vocabulary of a word map file. UserError if the file is not a word map."""
    ids = read_json(path, ONE_SET)
    try:
        return Vocabulary.from_word_map(ids)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} must hold a word map, word -> id: {error}") from None


def _only(folder: str | Path, pattern: str) -> Path:
    """The only file of a folder that matches a pattern."""
    files = sorted(Path(folder).glob(pattern))
    if not files:
        raise FileNotFoundError(f"{Path(folder) / pattern} not found: {_remedy(folder, pattern)}")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(f"{folder} must hold one {pattern}, got {names}: {ONE_SET}")
    return files[0]


def _remedy(folder: str | Path, pattern: str) -> str:
    """What to do about a missing file: if other splits have theirs, the data set lacks the split."""
    others = [split for split in SPLITS if any(Path(folder).glob(f"{split.upper()}_IMAGES_*.hdf5"))]
    split = pattern.partition("_")[0].lower()
    if others and split in SPLITS:
        return lacking_split(split, others)
    return "prepare it, or choose another data.dir"


def _image_shape(file: h5py.File, path: Path) -> tuple[int, int, tuple[int, int]]:
    """Number of pairs, captions per pair, image size (H, W)."""
    images, per_pair = file.get("images"), file.attrs.get("captions_per_image")
    shape = images.shape if isinstance(images, h5py.Dataset) and images.dtype == np.uint8 else ()
    if len(shape) != 5 or shape[1:3] != (4, 3) or per_pair is None:
        raise UserError(
            f"{path} must hold images (n, 4, 3, H, W) uint8 and the attribute captions_per_image, "
            f"got {images} and {per_pair}: {ONE_SET}"
        )
    return shape[0], int(per_pair), shape[-2:]


def _read_captions(
    images: Path, vocabulary: Vocabulary, count: int, per_pair: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n, k, T) and lengths (n, k), both int64, checked against the word map and the images."""
    split, _, name = images.stem.split("_", 2)
    path = images.with_name(CAPTIONS.format(split=split, name=name))
    tokens = _integers(path, dimensions=2)
    lengths = _integers(images.with_name(LENGTHS.format(split=split, name=name)), dimensions=1)
    if not len(tokens) == len(lengths) == count * per_pair:
        raise UserError(
            f"{images} holds {count} pairs of {per_pair} captions, beside files of {len(tokens)} "
            f"captions and {len(lengths)} lengths: {ONE_SET}"
        )
    wrong = np.flatnonzero(~_well_formed(tokens, lengths, vocabulary))
    if len(wrong):
        raise UserError(
            f"{path}: a caption must be <start> words <end> <pad> ... with ids below {len(vocabulary)} and "
            f"the stored length; number {wrong[0]} is not: {ONE_SET}"
        )
    return tokens.reshape(count, per_pair, -1), lengths.reshape(count, per_pair)


def _integers(path: Path, dimensions: int) -> np.ndarray:
    """The numbers of a JSON file as int64."""
    content = read_json(path, ONE_SET)
    try:
        numbers = np.array(content)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{path} must hold rows of one length ({error}): {ONE_SET}") from None
    if numbers.ndim != dimensions or numbers.dtype.kind != "i":
        raise UserError(
            f"{path} must hold integers in {dimensions} dimensions, got {numbers.ndim}: {ONE_SET}"
        )
    return numbers.astype(np.int64)


def _well_formed(tokens: np.ndarray, lengths: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Whether each caption (captions, T) agrees with its length and the word map: (captions,) bool."""
    position = np.arange(tokens.shape[-1])
    last = position == lengths[:, None] - 1
    return (
        (tokens[:, 0] == vocabulary.start)
        & ((tokens == vocabulary.end) == last).all(1)
        & ((tokens == vocabulary.pad) == (position >= lengths[:, None])).all(1)
        & ((tokens >= 0) & (tokens < len(vocabulary))).all(1)
    )
