"""How every script starts and ends. Scripts import this module before torch, for `OMP_WAIT_POLICY`."""

import io
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NoReturn

from data.errors import UserError

# OpenMP's threads wait for each other after every operation. By default they spin: next to another busy
# process they spin while a thread waits for its core, and two threads are up to 15 times slower than one.
# Passive threads sleep instead. OpenMP reads the setting once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BROKEN_PIPE = 128 + 13  # exit code: what a shell reports of a process that SIGPIPE ends


def _fail(message: str) -> NoReturn:
    """End the script with one line."""
    if message.startswith("Caught ") and "DataLoader worker" in message:  # a traceback, the error at its end
        message = message.strip().splitlines()[-1].partition(": ")[2]
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _killed_worker(error: RuntimeError) -> str | None:
    """A line for a worker process that was killed; None for another error."""
    if isinstance(error, BrokenProcessPool):
        return "a worker process was killed, most likely for lack of memory: use fewer --workers"
    if found := re.search(r"DataLoader worker \(pid.+?\) (is killed|exited unexpectedly)", str(error)):
        return (
            f"{found[0]}, most likely for lack of memory or shared memory: use fewer --data.workers (0 needs "
            "no shared memory), a smaller batch_size, or in Docker --shm-size 1g"
        )
    return None


def _escape_letters() -> None:
    """Let letters that the encoding of an output stream lacks be printed as escapes such as \\u524d."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_unwritten() -> None:
    """Discard what an output stream cannot write, which Python would complain of at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(main: Callable[[], None]) -> None:
    """Call `main`; errors that a user can cause become one line on standard error and exit code 2.

    These are UserError, OSError (a file that cannot be read or written) and a worker process that the system
    killed. Where the reader of an output stream has gone (`| head -1`), the script exits silently with the
    exit code of SIGPIPE.
    """
    _escape_letters()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE)
    except (UserError, OSError) as error:
        _fail(str(error))
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
