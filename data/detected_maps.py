"""Maps predicted by a change detector: one HDF5 file per split, beside the split's file, with the same rows.

    sem (n, 2, 3, H, W) uint8      before, after: maps as colours, void is black; compressed

Attributes: format, fingerprint (of the split), detector (SHA-256 of its checkpoint), command, content
(SHA-256 of the maps; missing in older files).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.errors import UserError
from data.hdf5 import ProcessHandle, new_file, open_complete

FORMAT = "mmodalcc detected maps 1"
REMEDY = "run tools/detect_maps.py"


def maps_path(split_file: Path) -> Path:
    """`train.detected.hdf5` beside `train.hdf5`, or beside the authors' `TRAIN_IMAGES_<name>.hdf5`."""
    split = split_file.stem.split("_")[0].lower()
    return split_file.with_name(f"{split}.detected.hdf5")


def write_maps(
    split_file: Path, maps: Iterable[np.ndarray], *, shape: tuple[int, int, int], attributes: dict[str, str]
) -> Path:
    """Write the maps of a split beside its file and return the path.

    maps: batches (B, 2, 3, H, W) uint8, n pairs in total. shape: (n, H, W). attributes: fingerprint,
    detector, command.
    """
    path = maps_path(split_file)
    count, *size = shape
    with new_file(path) as file:
        file.attrs.update({"format": FORMAT, **attributes})
        sem = file.create_dataset(
            "sem", (count, 2, 3, *size), np.uint8, chunks=(1, 2, 3, *size), compression="gzip"
        )
        written, content = 0, hashlib.sha256()
        for batch in maps:
            sem[written : written + len(batch)] = batch
            written += len(batch)
            content.update(batch.tobytes())
        file.attrs["content"] = content.hexdigest()
    return path


class DetectedMaps:
    """The detected maps beside a split's file, read on demand.

    fingerprint: of the split; the attribute `fingerprint` is that of the maps. Raises FileNotFoundError if
    the file is missing, UserError if it is damaged or belongs to other pairs.
    """

    def __init__(self, split_file: Path, fingerprint: str) -> None:
        self.path = path = maps_path(split_file)
        remedy = f"{REMEDY} --checkpoint DETECTOR --data.dir {split_file.parent}"
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found, data.maps is detected: {remedy}")
        with open_complete(path, remedy) as file:
            attributes = dict(file.attrs)
        if (attributes.get("format"), attributes.get("fingerprint")) != (FORMAT, fingerprint):
            raise UserError(f"{path} must hold maps of the current {split_file.name}: {remedy}")
        self.fingerprint: str = attributes.get("content", attributes["detector"])
        self._handle = ProcessHandle(path)

    def maps(self, row: int) -> np.ndarray:
        """The maps (2, 3, H, W) uint8 of the pair in row `row` of the split's file."""
        return self._handle.open()["sem"][row]
