"""A lock on a folder: one process at a time writes there."""

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
_held: set[int] = set()  # this process's descriptors of lock files


@contextmanager
def locked(folder: Path, remedy: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if needed; UserError where another process holds it.

    The lock ends with its process, however that ends. Unfinished files of processes that were killed are
    removed. remedy: what the user can do instead. Where the file system has no flock, a remark on standard
    error says so.
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
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _acquire(path: Path, remedy: str) -> int:
    """The descriptor of the locked lock file, which holds the owner's name."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:
            continue  # its last owner has removed the folder that it had made
        try:
            works = _flock(descriptor, path.parent)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UserError(f"{path.parent} is in use by {owner}: {remedy}") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        os.close(descriptor)  # its last owner has removed the file meanwhile
    if works:
        remove_partial_files(path.parent)
    _held.add(descriptor)
    os.truncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


def _flock(descriptor: int, folder: Path) -> bool:
    """Lock a file; False where the system cannot, BlockingIOError where another process has locked it."""
    try:
        if fcntl is None:
            raise OSError("Windows")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        print(f"{folder} cannot be locked ({error}): start no second process there", file=sys.stderr)
        return False
    return True


def _close_in_child() -> None:
    """A child would keep its dead parent's lock."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
