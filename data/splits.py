"""The splits of a folder of input files: their readers, the rows in use, and the views of a pair.

Needs NumPy and h5py only; data/dataset.py makes tensors of what is read here.
"""

from collections.abc import Iterable

import numpy as np

from data import authors_files, hdf5
from data.authors_files import ReleasedReader
from data.detected_maps import DetectedMaps
from data.errors import UserError
from data.hdf5 import SplitReader, split_path
from data.packed_maps import PackedViews
from data.palette import MapClasses, classes_by_date
from data.perturbations import PAINTING
from data.settings import DataConfig

Reader = SplitReader | ReleasedReader


class SplitViews:
    """The views of a split's pairs with the maps that `data.maps` names.

    maps: "given" (the file's), "detected" (data/detected_maps.py) or "void" (both black).
    """

    def __init__(self, reader: Reader, maps: str) -> None:
        self.reader, self.maps = reader, maps
        self.detected = DetectedMaps(reader.path, reader.fingerprint) if maps == "detected" else None

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the files that the views are read from, by file name."""
        files = {self.reader.path.name: self.reader.fingerprint}
        return {**files, self.detected.path.name: self.detected.fingerprint} if self.detected else files

    def packed(self, row: int) -> PackedViews:
        """The views of the pair in a row of the file."""
        views = self.reader.packed_views(row)
        if self.maps == "void":
            return views._replace(maps=np.zeros(views.images.shape[-2:], dtype=np.uint8))
        if self.detected:
            return views._replace(maps=self.detected.maps(row))
        return views


def used_rows(reader: Reader, split: str, config: DataConfig) -> list[int]:
    """Places of the pairs in use: augmented rows only in the splits that `data.augmented_splits` names."""
    keep = ~reader.augmented | (split in config.augmented_splits)
    return np.flatnonzero(keep).tolist()


def open_reader(split: str, config: DataConfig) -> Reader:
    """One split of `data.dir`, which holds our files or the released ones."""
    ours, authors = hdf5.input_files(config.dir), authors_files.input_files(config.dir)
    if ours and authors:
        raise UserError(
            f"{config.dir} must hold one kind of input files, found {ours[0].name} and {authors[0].name}: "
            "give each its own folder"
        )
    if authors:
        return ReleasedReader(config.dir, split, config.annotations, config.no_change)
    return SplitReader(split_path(config.dir, split))


def map_classes_of(reader: Reader, perturbations: Iterable[str]) -> MapClasses:
    """The classes of a split's given maps at each date; not looked for unless one of `perturbations` paints
    classes."""
    if not PAINTING.intersection(perturbations):
        return (), ()
    return classes_by_date(reader.views(row)[2:] for row in range(len(reader)))


def check_size(reader: Reader, image_size: list[int]) -> None:
    if list(reader.image_size) != image_size:
        raise UserError(
            f"{reader.path} holds images of {reader.image_size}, the model learnt on {tuple(image_size)}: "
            f"prepare them with tools/create_input_files.py --image_size {image_size[0]}"
        )


def open_split(split: str, config: DataConfig) -> tuple[Reader, list[int]]:
    """One split of `data.dir` and the places of its pairs in use; UserError where none is left."""
    reader = open_reader(split, config)
    rows = used_rows(reader, split, config)
    if not rows:
        raise UserError(
            f"{reader.path} holds no pair in use: its rows are all augmented, see data.augmented_splits"
        )
    return reader, rows
