"""Write a file beside its target and rename it when complete: readers see the old file or the new one."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # suffix of unfinished files
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`; it replaces `path` when the block succeeds, else it is removed.

    The file has a unique name and default permissions, and its content is flushed to disk before the rename.
    Symbolic links are followed; a device or pipe, such as /dev/stdout, is yielded itself. Raises OSError with
    a one-line message if the file cannot be written.
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
    """Create an empty file beside `target`; an OSError names `path`, the path that the caller gave."""
    partial = target.with_name(f"{target.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    return partial


def check_writable(path: str | Path, option: str, *, folder: bool = False) -> None:
    """Raise OSError if `atomic_write` could not write `path`; meant to be called before any work is done.

    folder: `path` is a folder that will hold files. Missing folders are created for the check and removed
    again. option: the command line option that the message names.
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
            f"{path} cannot be written ({error.strerror}): choose another path with {option}"
        ) from None
    finally:
        for parent in reversed(made):
            with suppress(OSError):  # not empty: another process has written to it
                parent.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Raises OSError if it cannot be written.

    Characters that UTF-8 cannot encode, such as undecodable bytes of a file name, are escaped ("\\udcff").
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def cannot_write(path: str | Path, reason: object) -> OSError:
    """The error for a file that does not fit on its disk."""
    return OSError(f"{path} cannot be written in full ({reason}): free disk space and try again")


def remove_partial_files(folder: Path) -> None:
    """Remove unfinished files of killed processes from a folder that no other process is writing to."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
