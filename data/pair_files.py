"""The pairs to caption: their files or folders on the command line, their views, and remarks about them."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.errors import UserError
from data.images import FORMATS
from data.maps.facts import remarks_on_maps
from data.maps.files import read_pair
from data.maps.settings import SECOND_MAPS, MapSettings
from data.settings import DataConfig

COLUMNS = ("img_A", "img_B", "seg_A", "seg_B")
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
RARE_CHANGE = "a model trained with maps then rarely reports a change"
LISTED = 3  # maximum number of names in a remark


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair; both maps or the first one may be missing.

    given: the path of each of COLUMNS as the user wrote it. folder: what relative paths refer to. extra: the
    other columns of a table.
    """

    given: Mapping[str, str]
    folder: Path = Path()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def path(self, column: str) -> Path | None:
        """The file of one of COLUMNS, None if it is missing."""
        given = self.given.get(column)
        return self.folder / given if given else None

    @property
    def has_maps(self) -> bool:
        return bool(self.given.get("seg_B"))


def pairs_of_arguments(arguments: Sequence[str]) -> list[PairFiles]:
    """The pair of two to four files, or the pairs of as many folders. Raises UserError on other arguments."""
    if len(arguments) not in (2, 3, 4):
        raise UserError(
            "a pair must be IMG_A IMG_B, IMG_A IMG_B SEG_A SEG_B or IMG_A IMG_B MASK_B, "
            f"got {len(arguments)} files (for many pairs give two to four folders, or --pairs FILE)"
        )
    for argument in arguments:
        refuse_address(argument)
        if not argument:
            raise UserError('a pair must be paths, got "": check the variables on your command line')
    folders = [argument for argument in arguments if Path(argument).is_dir()]
    columns = COLUMNS if len(arguments) == 4 else ("img_A", "img_B", "seg_B")
    by_column = dict(zip(columns, arguments, strict=False))
    if not folders:
        return [PairFiles(by_column)]
    for argument in arguments:
        if not Path(argument).exists():
            raise FileNotFoundError(
                f"{argument} not found: {folders[0]} is a folder, give a folder of its images beside it"
            )
        if argument not in folders:
            raise UserError(
                f"a pair must be files only or folders only, got the folder {folders[0]} and the file "
                f"{argument}: give folders with images of the same names, or files, or list the pairs in a "
                "table for --pairs"
            )
    return pairs_of_folders(by_column)


def refuse_address(given: str) -> None:
    """Raise UserError if a path is an address such as https://..."""
    if re.match(r"[A-Za-z][\w+.-]*://", given):
        raise UserError(f"{given} is an address, not a file: download the image and give its path")


def pairs_of_folders(folders: Mapping[str, str]) -> list[PairFiles]:
    """The pairs of images that have the same name in two folders, sorted, with the maps of that name.

    folders: a folder for each of COLUMNS in use. Names include subfolders, but no suffix. Names in one folder
    only are reported. UserError if the folders have no name in common, or one of two maps is missing.
    """
    files = {column: files_by_name(folder) for column, folder in folders.items()}
    names = files["img_A"].keys() & files["img_B"].keys()
    for column, folder in folders.items():
        if names.isdisjoint(files[column]):
            other = "img_B" if column == "img_A" else "img_A"
            raise UserError(
                f"{folder} and {folders[other]} must hold files of the same names, apart from their endings, "
                f"got {listed(files[column])} and {listed(files[other])}: rename them, or list the pairs "
                "in a table for --pairs"
            )
        if alone := files[column].keys() - names:
            print_remark(
                f"{folder}: names that are not in both image folders: {len(alone)} ({listed(alone)})"
            )
    pairs = []
    for name in sorted(names):
        pairs.append(PairFiles({column: paths[name] for column, paths in files.items() if name in paths}))
    for pair in pairs:
        if "seg_A" in folders and ("seg_A" in pair.given) != ("seg_B" in pair.given):
            missing = "seg_A" if pair.has_maps else "seg_B"
            raise UserError(
                f"a pair needs both maps or none: {folders[missing]} has no map for {pair.given['img_A']}: "
                "add it, or remove the other date's map"
            )
    return pairs


def files_by_name(folder: str) -> dict[str, str]:
    """The images of a folder and its subfolders: name without suffix -> path.

    Hidden files are left out; files that do not end like images are reported. UserError if there are no
    images, or two of one name.
    """
    files, others = {}, []
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in name.parts):
            continue
        if path.suffix.lower() not in SUFFIXES:
            others.append(str(name))
            continue
        other = files.setdefault(str(name.with_suffix("")), str(path))
        if other != str(path):
            raise UserError(
                f"{folder} must hold one image of each name, got {other} and {path}: move one of them"
            )
    if not files:
        raise UserError(f"{folder} holds no image: name a folder of PNG, JPEG or TIFF files")
    if others:
        print_remark(f"{folder}: files that do not end like images: {len(others)} ({listed(others)})")
    return files


def listed(names: Iterable[str]) -> str:
    """The first names, sorted, and the number of the others."""
    names = sorted(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def print_remark(line: str) -> None:
    """Print a line to standard error in one write, so that lines of several threads do not mix."""
    sys.stderr.write(f"{line}\n")


def read_files(
    pair: PairFiles, settings: MapSettings = SECOND_MAPS, remark: Callable[[str], None] = print_remark
) -> list[np.ndarray]:
    """The four views of a pair, each (H, W, 3) uint8 in the size of its file.

    settings: how maps are read. remark: is called with each line about the maps. Errors as in
    `data.maps.files.read_pair`.
    """
    for given in pair.given.values():
        refuse_address(given)
    files = [pair.path(column) for column in COLUMNS]
    read = read_pair(files, settings=settings)
    for line in remarks_on_maps(read, files[2:], settings):
        remark(line)
    return read.views


def remark_on_maps(
    pairs: Sequence[PairFiles], views: Sequence[str], training: DataConfig, *, detected: bool = False
) -> None:
    """Print which files a model that uses `views` ignores, or how many pairs have no maps.

    training: the settings that the model was trained with. detected: whether a change detector finds the
    missing maps, which are void otherwise.
    """
    missing = sum(not pair.has_maps for pair in pairs)
    uses_images, uses_maps = ("rgb_a" in views), ("sem_a" in views)
    if not uses_images and not detected:
        print_remark("this model uses only the maps: the images are ignored")
    if not uses_maps:
        if missing < len(pairs) or detected:
            print_remark("this model uses only the images: the maps are ignored")
    elif missing:
        effect = "detected" if detected else "void"
        if not detected and not training.has_void_maps:
            effect += (
                f", and {RARE_CHANGE}: give maps or --detector, or train with --data.augment '[map_void]'"
            )
        number = f" for {missing} of {len(pairs)} pairs: they" if len(pairs) > 1 else ": both"
        print_remark(f"no maps given{number} are {effect}")
