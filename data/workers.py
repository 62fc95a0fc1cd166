"""Helpers for worker processes: ordered results, and signals that only the main process handles."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import parent_process
from threading import Thread

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def in_order(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """Like `pool.map`, but with at most `ahead` pending results, which bounds memory."""
    items = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(items, ahead))

    def results() -> Iterator:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))

    return results()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM until the end of the block; processes started in it never receive them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts(*_: object) -> None:
    """Make a worker process exit only when its parent terminates it or has died.

    Ctrl-C, torchrun and schedulers signal all processes of a group at once, but the parent needs its workers
    until it has saved its state.
    """
    if not hasattr(signal, "sigtimedwait"):  # Windows, macOS
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit on a SIGTERM from the parent process, or within a second of the parent's death."""
    parent = parent_process()
    while parent.is_alive():
        received = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if received and received.si_pid == parent.pid:
            break
    os._exit(0)
