"""Write a file beside its target and rename it when complete: readers see the old file or the new one."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
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
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(f"{target.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:  # name the file that was asked for
        raise type(error)(error.errno, error.strerror, str(path)) from None
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


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 text file; OSError where it cannot be written."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def cannot_write(path: str | Path, reason: object) -> OSError:
    """The error of a file that the disk has no room for."""
    return OSError(f"{path} cannot be written in full ({reason}): make room on its disk and try again")


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that no other process is writing to."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)
