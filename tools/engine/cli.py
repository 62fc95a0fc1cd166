"""Run a script's main(); user errors become one line and exit code 2.

Scripts import this module before torch, because it sets `OMP_WAIT_POLICY`.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn

from data.atomic_write import DISK_IS_FULL, cannot_write
from data.errors import UserError

# OpenMP threads wait for each other after every operation. By default they spin; if another process keeps a
# core busy, two spinning threads can be up to 15 times slower than one. Passive threads sleep instead. OpenMP
# reads the setting once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BROKEN_PIPE = 128 + 13  # exit code that shells report for a process ended by SIGPIPE


def _fail(message: str) -> NoReturn:
    """Print the message as one line and exit."""
    if message.startswith("Caught ") and "DataLoader worker" in message:  # a traceback that ends in the error
        message = message.strip().splitlines()[-1].partition(": ")[2]
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _killed_worker(error: RuntimeError) -> str | None:
    """The message for a worker process that was killed; None for other errors."""
    if isinstance(error, BrokenProcessPool):
        return "a worker process was killed, most likely for lack of memory: use fewer --workers"
    if match := re.search(r"DataLoader worker \(pid.+?\) (is killed|exited unexpectedly)", str(error)):
        return (
            f"{match[0]}, most likely for lack of memory or shared memory: use fewer --data.workers (0 needs "
            "no shared memory), a smaller batch_size, or in Docker --shm-size 1g"
        )
    return None


def _open_closed_streams() -> None:
    """Replace streams that were closed (`>&-`): standard output cannot be written, remarks are discarded.

    Python has None for them. `print(file=None)` would write remarks to standard output, and captions would be
    lost without an error.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 as long as the process lives


def _escape_unencodable() -> None:
    """Print characters that the encoding of an output stream lacks as escapes such as \\u524d."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _message(error: UserError | OSError) -> str:
    """The message of an error; errors of an output stream get a remedy, Python gives them no file name."""
    if isinstance(error, OSError) and error.filename is None:
        if error.errno == errno.EBADF:
            return "standard output is closed: redirect it to a file or a pipe"
        if error.errno in DISK_IS_FULL:
            return str(cannot_write("the output", error.strerror))
    return str(error)


def _discard_unwritten() -> None:
    """Discard output that cannot be written, which would make Python fail at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(main: Callable[[], None]) -> None:
    """Call `main`; user errors become one line on standard error and exit code 2.

    User errors are UserError, OSError (a file that cannot be read or written) and killed worker processes. If
    the reader of an output stream has gone (`| head -1`), the script exits silently with the exit code of
    SIGPIPE.
    """
    _open_closed_streams()
    _escape_unencodable()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE)
    except (UserError, OSError) as error:
        _fail(_message(error))
    except RuntimeError as error:
        message = _killed_worker(error)
        if message is None:
            raise
        _fail(message)
    except KeyboardInterrupt as interrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted {interrupt}".rstrip(), file=sys.stderr)
        sys.exit(130)
    finally:
        _discard_unwritten()
