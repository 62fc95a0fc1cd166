"""Find the images of pairs below a data set's folder, also if names differ in case or ending."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePath
from typing import NamedTuple

from PIL import Image

from data.errors import UserError
from data.images import FORMATS
from data.listing import listed
from data.sources.pair import FIRST_FEW, OTHER_SPLIT_NAMES, Warnings, split_of

IMAGE_ENDINGS = {ending for ending, form in Image.registered_extensions().items() if form in FORMATS}
OTHER_FILE = ("images found under another name than the data set gives", "check that they are the right ones")
OTHER_FOLDER = ("folders found under another name", "check that they are the right ones")
UNUSED_FOLDER = ("folders that are not read", "maps belong in sem/A and sem/B, or in label")


class Layout(NamedTuple):
    """The folders of a data set's pairs, below the folder of a split or below the data set's folder."""

    data_set: str
    before: str
    after: str
    map_before: str | None = None
    map_after: str | None = None
    labels: tuple[str, ...] = ()  # LEVIR-MCI's labels, used as the map of the second date


LAYOUTS = (
    Layout("SECOND-CC", "rgb/A", "rgb/B", "sem/A", "sem/B"),
    Layout("LEVIR-CC", "A", "B", labels=("label", "label_rgb")),
    Layout("SECOND", "im1", "im2", "label1", "label2"),
    Layout("Dubai-CC", "imgs_tiles/RGB/500_2000", "imgs_tiles/RGB/500_2010"),
)


class PairFolders(NamedTuple):
    """The folders of the pairs of a split; None: its pairs have no such map."""

    layout: Layout
    before: Path
    after: Path
    map_before: Path | None = None
    map_after: Path | None = None
    label: Path | None = None


def _described(folders: PairFolders) -> str:
    """A layout in words: "the folders A and B of LEVIR-CC, maps in label"."""
    layout, labels = folders.layout, [folders.label.name] if folders.label else []
    names, paths = (layout.map_before, layout.map_after), (folders.map_before, folders.map_after)
    maps = [name for name, path in zip(names, paths, strict=True) if path] + labels
    where = f"maps in {' and '.join(maps)}" if maps else "no maps"
    return f"the folders {layout.before} and {layout.after} of {layout.data_set}, {where}"


class Folder:
    """The names in a folder; empty if the folder does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = frozenset(os.listdir(path)) if path.is_dir() else frozenset()

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        return _grouped(self.names, str.lower)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(filter(is_image, self.names), lambda name: PurePath(name).stem.lower())

    def in_other_case(self, name: str) -> list[str]:
        """The names that differ from `name` in case at most."""
        return [name] if name in self.names else self._by_case.get(name.lower(), [])

    def similar_images(self, name: str) -> list[str]:
        """The names that differ from `name` in case, else the images that differ in case or ending."""
        if same := self.in_other_case(name):
            return same
        stem = PurePath(name).stem if is_image(name) else name
        images = self._by_stem.get(stem.lower(), [])
        return [image for image in images if PurePath(image).stem == stem] or images


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in sorted(names):
        groups[key(name)].append(name)
    return groups


def is_image(name: str) -> bool:
    """Whether a file name has the ending of an image format that can be read."""
    return PurePath(name).suffix.lower() in IMAGE_ENDINGS


class ImageFiles:
    """The images below `root`. `warnings` collects those that have another name than the data set gives."""

    def __init__(self, root: Path, warnings: Warnings) -> None:
        self.root, self.warnings = root, warnings
        self._folders: dict[Path, Folder] = {}
        self._pair_folders: dict[str, PairFolders] = {}

    def content(self, path: Path) -> Folder:
        """The names in a folder."""
        if path not in self._folders:
            self._folders[path] = Folder(path)
        return self._folders[path]

    def folder(self, *parts: str) -> Path | None:
        """The folder below `root` with this name, else the only one with this name in other case."""
        path = self.root
        for part in PurePath(*parts).parts:
            names = self.content(path).in_other_case(part)
            if len(names) != 1:
                return None
            path /= names[0]
        return path if path.is_dir() else None

    def file(self, folder: Path, filename: str) -> Path:
        """The file with this name, else the only image with this name in other case or with another ending.

        Returns `folder / filename` if no image or several images match.
        """
        path = folder / filename
        content = self.content(path.parent)
        if path.name in content.names:
            return path
        names = content.similar_images(path.name)
        if len(names) != 1:
            return path
        self.warnings.add(OTHER_FILE, f"{self.relative(path.parent / names[0])} for {path.name}")
        return path.parent / names[0]

    def listed(self, name: str) -> Path:
        """The image at a path that the data set gives: absolute, or relative to `root` or `root`/images."""
        given = PurePath(name.replace("\\", "/"))
        if given.is_absolute():
            return self.file(Path(given.parent), given.name)
        for base in ("", "images"):
            folder = self.folder(base, str(given.parent))
            if folder and (path := self.file(folder, given.name)).is_file():
                if path.parent != self.root / base / given.parent:
                    self.warnings.add(OTHER_FOLDER, f"{self.relative(path.parent)} for {given.parent}")
                return path
        return self.root / given

    def pair_folders(self, name: str) -> PairFolders:
        """The folders of the pairs of the folder `name`, which is looked for below `root` and `root`/images.

        A folder named like a split may have another of the split's names (`validation` for `val`). Without
        such a folder, the folders below `root` are those of all splits.
        """
        if name not in self._pair_folders:
            self._pair_folders[name] = self._find_pair_folders(name)
        return self._pair_folders[name]

    def _find_pair_folders(self, name: str) -> PairFolders:
        if name == "restval" and not (self.folder(name) or self.folder("images", name)):
            return self.pair_folders("train")
        split = split_of(name)
        synonyms = [other for other, same in OTHER_SPLIT_NAMES.items() if same == split]
        for candidate in dict.fromkeys((name, split or name, *synonyms)):
            for parent in ("", "images"):
                if folders := self._in_layout(PurePath(parent, candidate), PurePath(parent, name)):
                    return folders
        for parent in ("", "images"):
            if folders := self._in_layout(PurePath(parent), PurePath(parent)):
                return folders
        levir = (self.root / "images").is_dir()
        base, layout = self.root / ("images" if levir else "") / name, LAYOUTS[1 if levir else 0]
        return PairFolders(layout, base / layout.before, base / layout.after)

    def _in_layout(self, base: PurePath, named: PurePath) -> PairFolders | None:
        """The folders below `base` in the first of LAYOUTS that has its first date there.

        named: the same folder under the name that the data set gives, for the warning.
        """
        layout = next((layout for layout in LAYOUTS if self.folder(str(base / layout.before))), None)
        if layout is None:
            return None
        paths = []
        for name in (*layout[1:5], *layout.labels):
            path = self.folder(str(base / name)) if name else None
            if path and path != self.root / named / name:
                self.warnings.add(OTHER_FOLDER, f"{self.relative(path)} for {named / name}")
            paths.append(path)
        before, after, map_before, map_after, *labels = paths
        label = next(filter(None, labels), None)
        if map_after is None:
            self._check_maps(layout, base, map_before)
        if base.name and not (map_after or label):
            self._warn_of_unused(layout, base)
        return PairFolders(
            layout, before, after or self.root / base / layout.after, map_before, map_after, label
        )

    def _check_maps(self, layout: Layout, base: PurePath, map_before: Path | None) -> None:
        """Raise UserError if there is a folder of maps, but none of the second date."""
        parent = PurePath(layout.map_after or "").parent
        if map_before or (parent.name and self.folder(str(base / parent))):
            missing = self.root / base / layout.map_after
            raise UserError(
                f"{missing} not found, {self.beside(missing)}: maps belong in {layout.map_before} and "
                f"{layout.map_after}, masks in {layout.map_after}: rename the folder"
            )

    def _warn_of_unused(self, layout: Layout, base: PurePath) -> None:
        """Warn about folders next to the images of a split without maps, which are not read."""
        parent = self.folder(str(base))
        used = {PurePath(name).parts[0].lower() for name in (layout.before, layout.after)}
        for name in sorted(self.content(parent).names):
            if name.lower() not in used and (parent / name).is_dir():
                self.warnings.add(UNUSED_FOLDER, self.relative(parent / name))

    def describe(self) -> str:
        """Where the images of the pairs are, in words."""
        return (
            "; ".join(sorted(set(map(_described, self._pair_folders.values())))) or "the paths that it gives"
        )

    def maps_of(self, after: Path) -> str:
        """Where the maps of the pairs belong whose second images are in the folder `after`."""
        for folders in self._pair_folders.values():
            if folders.after == after:
                base = after.parents[len(PurePath(folders.layout.after).parts) - 1]
                names = filter(None, (*folders.layout[3:5], *folders.layout.labels[:1]))
                paths = [base / name for name in names]
                missing = " and ".join(map(str, paths))
                return f"{missing} not found, {self.beside(paths[-1])}" if paths else "none in this layout"
        return "their columns are empty"

    def relative(self, path: Path) -> str:
        """The path below `root`, as messages name it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def beside(self, path: Path) -> str:
        """What is there instead of a missing file: the nearest folder that exists, with its first names."""
        folder = next((parent for parent in path.parents if parent.is_dir()), Path("."))
        similar = self.content(path.parent).similar_images(path.name)
        names = similar or sorted(self.content(folder).names)
        return f"{folder} holds {listed(names, FIRST_FEW) or 'nothing'}"
