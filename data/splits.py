"""The splits of a folder of input files: their readers, the rows in use, and the views of a pair.

Needs NumPy and h5py only; data/dataset.py makes tensors of what is read here.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from data import authors_files, hdf5
from data.authors_files import AuthorsReader
from data.detected_maps import DetectedMaps
from data.errors import UserError
from data.hdf5 import SplitReader, split_path
from data.maps.settings import MapSettings
from data.packed_maps import PackedViews
from data.palette import MapClasses, classes_by_date, same_classes
from data.perturbations import PAINTING
from data.settings import DataConfig

Reader = SplitReader | AuthorsReader


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
    """The rows that are used: augmented ones only in the splits named by `data.augmented_splits`."""
    keep = ~reader.augmented | (split in config.augmented_splits)
    return np.flatnonzero(keep).tolist()


def open_reader(split: str, config: DataConfig) -> Reader:
    """Open one split of `data.dir`, which holds either our files or the authors'."""
    ours, authors = hdf5.input_files(config.dir), authors_files.input_files(config.dir)
    if ours and authors:
        raise UserError(
            f"{config.dir} must hold one kind of input files, found {ours[0].name} and {authors[0].name}: "
            "give each kind a separate folder"
        )
    if authors:
        return AuthorsReader(config.dir, split, config.annotations, config.no_change)
    return SplitReader(split_path(config.dir, split))


def map_classes_of(reader: Reader, perturbations: Iterable[str]) -> MapClasses:
    """The classes of a split's maps at each date; empty unless one of `perturbations` paints classes."""
    if not PAINTING.intersection(perturbations):
        return MapClasses(palette=reader.maps.palette)
    return classes_by_date((reader.views(row)[2:] for row in range(len(reader))), reader.maps.palette)


def check_size(reader: Reader, image_size: list[int]) -> None:
    """Raise UserError if a split's images do not have the size that the model was trained on."""
    if list(reader.image_size) != image_size:
        raise UserError(
            f"{reader.path} holds images of {reader.image_size}, the model was trained on "
            f"{tuple(image_size)}: prepare them with tools/create_input_files.py --image_size {image_size[0]}"
        )


def check_maps(
    reader: Reader, trained: MapSettings, maps: str = "given", views: Sequence[str] = hdf5.VIEWS
) -> None:
    """Raise UserError if a split's maps are of another kind than those that the model was trained on.

    maps: `data.maps`. views: those that the model reads; void maps and models without maps are not checked.
    """
    if maps == "void" or "sem_a" not in views:
        return
    palette = reader.maps.palette
    if not same_classes(palette, trained.palette):
        raise UserError(
            f"{reader.path} has maps with other classes ({palette.listed()}) than the model was trained on "
            f"({trained.palette.listed()}): use a model trained on this data, or prepare the data with the "
            "model's palette.yaml; eval.py --data.maps void leaves the maps out"
        )
    if maps == "given" and reader.maps.mask_unchanged != trained.mask_unchanged:
        with_option = "with" if trained.mask_unchanged else "without"
        raise UserError(
            f"{reader.path} must have maps prepared {with_option} --mask_unchanged, as for the model's "
            f"training: prepare the data {with_option} it"
        )


def open_split(split: str, config: DataConfig) -> tuple[Reader, list[int]]:
    """Open one split of `data.dir`; returns it with the rows that are used. UserError if there are none."""
    reader = open_reader(split, config)
    rows = used_rows(reader, split, config)
    if not rows:
        raise UserError(
            f"{reader.path} has no usable pair: all its rows are augmented, see data.augmented_splits"
        )
    return reader, rows
