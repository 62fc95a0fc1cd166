"""Write a file beside its target and rename it when complete: readers see the old file or the new one."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # how the names of unfinished files end
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`; it replaces `path` when the block succeeds, else it is removed.

    The file has a unique name and ordinary permissions, and its content is on the disk before the rename. A
    symbolic link is followed; a device or pipe, such as /dev/stdout, is yielded itself. OSError, with one
    line, where the file cannot be written.
    """
    path = Path(path)
    if _is_device(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    partial = _new_partial(path, target)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            raise cannot_write(path, error.strerror) from error
        raise


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _new_partial(path: Path, target: Path) -> Path:
    """An empty file beside `target`; OSError names `path`, which was asked for."""
    partial = target.with_name(f"{target.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    return partial


def check_writable(path: str | Path, option: str, *, folder: bool = False) -> None:
    """OSError, before any work is done, where `atomic_write` could not write `path` after it.

    folder: `path` is a folder that gets files. Folders that are absent are made, tried and removed again.
    option: of the command line, which the message names.
    """
    path = Path(path)
    file = path / "file" if folder else path
    made = []
    try:
        if _is_device(file):
            return
        target = Path(os.path.realpath(file))
        for parent in reversed((target.parent, *target.parent.parents)):
            if not parent.exists():
                parent.mkdir()
                made.append(parent)
        _new_partial(path, target).unlink()
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written ({error.strerror}): choose another place with {option}"
        ) from None
    finally:
        for parent in reversed(made):
            with suppress(OSError):  # another process has put something into it
                parent.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 text file; OSError where it cannot be written.

    What UTF-8 cannot hold, such as a byte of a strange file name, is escaped ("\\udcff").
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def cannot_write(path: str | Path, reason: object) -> OSError:
    """The error of a file that the disk has no room for."""
    return OSError(f"{path} cannot be written in full ({reason}): make room on its disk and try again")


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that no other process is writing to."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
