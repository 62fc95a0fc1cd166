"""A lock on a folder, so that only one process at a time writes to it."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data.atomic_write import remove_partial_files
from data.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
_held: set[int] = set()  # descriptors of the lock files that this process holds


@contextmanager
def locked(folder: Path, remedy: str) -> Iterator[None]:
    """Hold the lock of a folder, which is created if needed. UserError if another process holds it.

    The system releases the lock when the process ends, even by a crash. Unfinished files of killed processes
    are removed. remedy: what the user can do. If the file system has no flock, a warning is printed.
    """
    new = not folder.exists()
    path = folder / LOCK
    try:
        descriptor = _acquire(path, remedy)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            _held.discard(descriptor)
            os.close(descriptor)
    finally:
        if new:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _acquire(path: Path, remedy: str) -> int:
    """Lock the lock file, write the owner's name into it, and return its descriptor."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:
            continue  # its previous owner has just removed the folder
        try:
            works = _flock(descriptor, path.parent)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UserError(f"{path.parent} is in use by {owner}: {remedy}") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        os.close(descriptor)  # its previous owner has just removed the file
    if works:
        remove_partial_files(path.parent)
    _held.add(descriptor)
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


def _flock(descriptor: int, folder: Path) -> bool:
    """Lock a file. False if that is not supported; BlockingIOError if another process has locked it."""
    try:
        if fcntl is None:
            raise OSError("Windows")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        print(f"{folder} cannot be locked ({error}): do not start a second process there", file=sys.stderr)
        return False
    return True


def _close_in_child() -> None:
    """Close the lock files in a forked child, which would otherwise keep the lock of a dead parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
