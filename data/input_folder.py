"""The folder of input files: what it holds, and how new files replace old ones."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data import authors_files, hdf5
from data.errors import UserError

FORMATS = {"ours": hdf5, "released": authors_files}


def input_files(folder: Path) -> list[Path]:
    """The input files of either format in a folder."""
    return [path for layout in FORMATS.values() for path in layout.input_files(folder)]


def refuse_existing(output_dir: Path, force: bool) -> None:
    """Raise UserError if files would be replaced without --force."""
    names = [path.name for path in input_files(output_dir)]
    if names and not force:
        raise UserError(
            f"{output_dir} must not hold input files, found {', '.join(names)}: --force replaces them"
        )


@contextmanager
def staging_folder(output_dir: Path) -> Iterator[Path]:
    """Yield a folder to write into; if the block succeeds, its files replace those of `output_dir`.

    Other input files in `output_dir` are removed, because they belong to another vocabulary.
    """
    folder = output_dir / ".incomplete"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    folder.mkdir(parents=True)
    try:
        yield folder
        new_files = input_files(folder)
        for path in new_files:
            path.replace(output_dir / path.name)
        new_names = {path.name for path in new_files}
        for path in input_files(output_dir):
            if path.name not in new_names:
                path.unlink()
    finally:
        shutil.rmtree(folder)


def describe_files(output_dir: Path) -> Iterator[str]:
    """A line with the name and size of each file."""
    for path in input_files(output_dir):
        yield f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB"
