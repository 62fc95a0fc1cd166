"""Worker processes: results in order, and signals that only the main process acts on."""

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
    """`map` over a pool that starts at once and holds at most `ahead` results, so that memory stays flat."""
    items = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(items, ahead))

    def results() -> Iterator:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))

    return results()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of the block; processes that it starts never receive them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts(*_: object) -> None:
    """Let a worker process end only when its parent ends it or has died.

    Ctrl-C, torchrun and schedulers signal all processes of a group at once, and the parent needs its workers
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
