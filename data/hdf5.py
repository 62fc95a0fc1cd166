"""The input files of training and evaluation: one HDF5 file per split, its writer and its reader.

n pairs, k captions each, T = maximum caption length + 2:

    rgb        (n, 2, 3, H, W) uint8      before, after
    sem        (n, 2, 3, H, W) uint8      maps as colours; compressed
    maps       (n, H, W) uint8            both maps in one byte a pixel (data/packed_maps.py); compressed
    packed     (n,) bool                  whether `maps` has a pair's maps: their colours are in the palette
    tokens     (n, k, T) int32            <start> words <end> <pad> ...
    lengths    (n, k) int32               with <start> and <end>
    references (n, most captions) text    all captions of a pair, words joined by spaces; padded with ""
    raw        (n, most captions) text    the same captions as written by the annotators
    changed, augmented (n,) bool          filename (n,) text
    source     (n,) text                  the image that a pair was cut from, or the pair's name

Attributes: format, made_with (settings as JSON), palette (of the maps, as JSON), no_change (JSON list of the
sentences that mean "nothing has changed" in this data set), fingerprint (of the content), vocabulary (its
fingerprint), metres_per_pixel (ground resolution of the stored images, absent if unknown).

`maps` is the same as `sem`, but is read several times faster. Files of the first format, which can still be
read, have `sem` alone.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.atomic_write import atomic_write, cannot_write
from data.errors import UserError
from data.json_file import parse_json
from data.maps.settings import SECOND_MAPS, MapSettings
from data.packed_maps import PackedViews, pack_maps
from data.palette import SECOND
from data.sources import NO_CHANGE_SENTENCES, SPLITS, Pair, source_of
from data.vocabulary import Vocabulary

VIEWS = ("rgb_a", "rgb_b", "sem_a", "sem_b")
FORMAT, FIRST_FORMAT = "mmodalcc 2", "mmodalcc 1"
REMEDY = "run tools/create_input_files.py"


def split_path(folder: str | Path, split: str) -> Path:
    """The path of a split's HDF5 file."""
    return Path(folder) / f"{split}.hdf5"


def vocabulary_path(folder: str | Path) -> Path:
    """The path of the vocabulary in a folder of input files."""
    return Path(folder) / "vocabulary.json"


def input_files(folder: str | Path) -> list[Path]:
    """The files of this layout in a folder."""
    paths = [*(split_path(folder, split) for split in SPLITS), vocabulary_path(folder)]
    return [path for path in paths if path.exists()]


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
    """Write a split of n pairs and the vocabulary beside it, with one pair's images in memory at a time.

    `views` yields (4, 3, *image_size) uint8 for each pair, in the order of VIEWS. `tokens` (n, k, T) and
    `lengths` (n, k) are the encoded captions. `no_change`: the data set's sentences that mean "nothing has
    changed" (data/no_change.py). maps: how the maps were read.
    """
    vocabulary.save(vocabulary_path(folder))
    content = hashlib.sha256()
    with new_file(split_path(folder, split)) as file:
        _write_captions(file, pairs, tokens, lengths, content)
        _write_images(file, len(pairs), views, image_size, content)
        if maps.palette != SECOND:  # the palette of files of earlier versions, which do not hash it
            content.update(maps.palette.to_json().encode())
        file.attrs["format"] = FORMAT
        stored = maps.to_dict()
        file.attrs["palette"] = stored.pop("palette")
        file.attrs["made_with"] = json.dumps({**settings, **stored})
        file.attrs["no_change"] = json.dumps(list(no_change))
        file.attrs["vocabulary"] = fingerprint_of(vocabulary)
        file.attrs["fingerprint"] = content.hexdigest()


def record_resolution(folder: Path, metres_per_pixel: float | None) -> None:
    """Store the ground resolution of the images in the files of a folder; None if it is unknown."""
    for split in SPLITS:
        path = split_path(folder, split)
        if metres_per_pixel is not None and path.exists():
            with h5py.File(path, "r+") as file:
                file.attrs["metres_per_pixel"] = metres_per_pixel


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file that appears at `path` when it is complete. OSError on a full disk.

    Errors raised in the block are passed on unchanged.
    """
    with atomic_write(path) as partial:
        file = h5py.File(partial, "w")
        try:
            yield file
        except BaseException:
            with suppress(RuntimeError):
                file.close()
            raise
        try:
            file.close()
        except RuntimeError as error:  # h5py's error for a full disk
            raise cannot_write(path, error) from error


@contextmanager
def open_complete(path: Path, remedy: str = f"{REMEDY} --force") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading. UserError with the remedy if it is damaged."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} is not a complete HDF5 file: {remedy} ({error})") from error


def _write_images(
    file: h5py.File,
    count: int,
    views: Iterable[np.ndarray],
    image_size: tuple[int, int],
    content: "hashlib._Hash",
) -> None:
    """Write each pair as one chunk of `rgb` and one of `sem` and `maps`, and hash it into `content`.

    Chunks are written directly, so that a full disk raises at once and not when HDF5 flushes its cache.
    """
    chunk = (1, 2, 3, *image_size)
    rgb = file.create_dataset("rgb", (count, *chunk[1:]), np.uint8, chunks=chunk)
    sem = file.create_dataset("sem", (count, *chunk[1:]), np.uint8, chunks=chunk, compression="gzip")
    maps = file.create_dataset(
        "maps", (count, *image_size), np.uint8, chunks=(1, *image_size), compression="gzip"
    )
    packed = np.zeros(count, dtype=bool)
    for index, images in zip(range(count), views, strict=True):
        rgb.id.write_direct_chunk((index, 0, 0, 0, 0), images[:2].tobytes())
        if images[2:].any():  # a missing chunk is read as zeros
            sem.id.write_direct_chunk((index, 0, 0, 0, 0), zlib.compress(images[2:].tobytes()))
        packed_maps = pack_maps(images[2:])
        if packed_maps is not None:
            maps.id.write_direct_chunk((index, 0, 0), zlib.compress(packed_maps.tobytes()))
            packed[index] = True
        content.update(images.tobytes())
    file["packed"] = packed


def _write_captions(
    file: h5py.File, pairs: Sequence[Pair], tokens: np.ndarray, lengths: np.ndarray, content: "hashlib._Hash"
) -> None:
    """Write everything but the images and hash it into `content`, except the sources.

    Sources are not hashed because files of earlier versions lack them.
    """
    sources = [source_of(pair.filename, pair.source) for pair in pairs]
    file.create_dataset("source", data=sources, dtype=h5py.string_dtype("utf-8"))
    texts = {
        "references": _rectangle(references_of(pairs)),
        "raw": _rectangle([pair.raw for pair in pairs]),
        "filename": np.array([pair.filename for pair in pairs], dtype=object),
    }
    numbers = {
        "tokens": tokens.astype(np.int32),
        "lengths": lengths.astype(np.int32),
        "changed": np.array([pair.changed for pair in pairs]),
        "augmented": np.array([pair.augmented for pair in pairs]),
    }
    for name, values in texts.items():
        file.create_dataset(name, data=values, dtype=h5py.string_dtype("utf-8"))
        content.update(json.dumps([name, values.tolist()]).encode())
    for name, values in numbers.items():
        file[name] = values
        content.update(json.dumps([name, values.shape]).encode() + values.tobytes())


def references_of(pairs: Sequence[Pair]) -> list[list[str]]:
    """The captions of each pair, words joined by spaces."""
    references = []
    for pair in pairs:
        references.append([" ".join(words) for words in pair.captions])
    return references


def _rectangle(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Rows of different lengths as one array (n, longest), padded with ""."""
    width = max(len(row) for row in rows)
    return np.array([[*row, *[""] * (width - len(row))] for row in rows], dtype=object)


def fingerprint_of(vocabulary: Vocabulary) -> str:
    return hashlib.sha256(json.dumps(vocabulary.words).encode()).hexdigest()


def _missing_file(path: Path) -> str:
    """The message for a split without a file: nothing was prepared, or the data set lacks the split."""
    others = [split for split in SPLITS if split_path(path.parent, split).is_file()]
    if not others:
        return f"{path} not found: {REMEDY} first"
    return f"{path} not found: {lacking_split(path.stem, others)}"


def lacking_split(split: str, others: Sequence[str]) -> str:
    """The message that a data set has no pairs of `split`, only of `others`."""
    remedy = f"give some pairs the split {split}"
    if split == "val" and "train" in others:
        remedy += ", or prepare the data set with --val_share 0.1 --force"
    if split == "test":
        remedy += f", or evaluate with eval.py --split {others[-1]}"
    return f"the data set has no {split} pairs, only {' and '.join(others)}: {remedy}"


class ProcessHandle:
    """An HDF5 file that each process opens when it first reads from it.

    Open HDF5 handles cannot be pickled (spawn) and must not be shared after forking.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._file, self._process = path, None, None

    def open(self) -> h5py.File:
        """The handle of this process; a handle inherited by forking is closed and replaced."""
        if self._process != os.getpid():
            if self._file is not None:
                self._file.close()
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def __getstate__(self) -> dict:
        return {"path": self.path, "_file": None, "_process": None}


class SplitReader:
    """A split in memory, except for its images, which are read on demand.

    `no_change`: the sentences of the data set that mean "nothing has changed".
    `metres_per_pixel`: the ground resolution of the images, None if unknown.
    `maps`: how the data set's maps were read; they are in the colours of its palette.
    `has_human_words`: whether the references are the annotators' sentences, not decoded tokens.
    """

    has_human_words = True

    def __init__(self, path: str | Path):
        """FileNotFoundError if the file is missing; UserError on another format or vocabulary."""
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(_missing_file(self.path))
        self.vocabulary = Vocabulary.load(vocabulary_path(self.path.parent))
        self._handle = ProcessHandle(self.path)
        with open_complete(self.path) as file:
            try:
                self._read(file)
            except KeyError as error:
                raise UserError(f"{self.path} is not complete: {REMEDY} --force ({error})") from None

    def _read(self, file: h5py.File) -> None:
        """Read everything but the images."""
        file_format = file.attrs.get("format", "none")
        if file_format not in (FORMAT, FIRST_FORMAT):
            raise UserError(f"{self.path} must have format {FORMAT!r}, got {file_format!r}: {REMEDY} --force")
        if file.attrs["vocabulary"] != fingerprint_of(self.vocabulary):
            raise UserError(
                f"{self.path} was made with another vocabulary.json than the one beside it: {REMEDY} --force"
            )
        self.fingerprint: str = file.attrs["fingerprint"]
        stored = file.attrs.get("no_change")  # files of earlier versions lack it
        self.no_change = NO_CHANGE_SENTENCES if stored is None else tuple(self._parsed(stored))
        made_with = self._parsed(file.attrs["made_with"])
        try:
            self.maps = MapSettings.stored({**made_with, "palette": file.attrs.get("palette")})
        except UserError as error:
            raise UserError(f"{self.path}: {error}: {REMEDY} --force") from None
        resolution = file.attrs.get("metres_per_pixel")
        self.metres_per_pixel: float | None = None if resolution is None else float(resolution)
        self.tokens = file["tokens"][:].astype(np.int64)
        self.lengths = file["lengths"][:].astype(np.int64)
        self.changed, self.augmented = file["changed"][:], file["augmented"][:]
        self.filenames: list[str] = file["filename"].asstr()[:].tolist()
        if "source" in file:
            self.sources: list[str] = file["source"].asstr()[:].tolist()
        else:  # a file of an earlier version
            self.sources = [source_of(filename) for filename in self.filenames]
        count = (file["references"].asstr()[:] != "").sum(axis=1)
        self.references = _rows(file["references"], count)
        self.raw = _rows(file["raw"], count)
        self.image_size: tuple[int, int] = file["rgb"].shape[-2:]
        self._packed = file["packed"][:] if file_format == FORMAT else None

    def _parsed(self, attribute: str) -> Any:
        """Parse an attribute that holds JSON."""
        return parse_json(attribute, self.path, f"{REMEDY} --force")

    def __len__(self) -> int:
        return len(self.filenames)

    def views(self, index: int) -> np.ndarray:
        """The images of a pair: (4, 3, H, W) uint8 in the order of VIEWS."""
        return self.packed_views(index).unpacked()

    def packed_views(self, index: int) -> PackedViews:
        """Images and maps of a pair as stored in the file."""
        file = self._handle.open()
        images = file["rgb"][index]
        if self._packed is not None and self._packed[index]:
            return PackedViews(images, file["maps"][index])
        return PackedViews(images, file["sem"][index])

    def all_packed(self, rows: Sequence[int]) -> bool:
        """Whether the maps of these pairs are known to be in the palette."""
        return self._packed is not None and bool(self._packed[rows].all())


def _rows(texts: h5py.Dataset, counts: np.ndarray) -> list[list[str]]:
    """Inverse of `_rectangle`."""
    return [row[:count].tolist() for row, count in zip(texts.asstr()[:], counts, strict=True)]
