"""Work spread over processes: results in order, and a Ctrl-C that leaves no file half-written."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from itertools import islice
from threading import Event


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
def interruptions_noted() -> Iterator[Event]:
    """An event that Ctrl-C or SIGTERM sets. They raise nothing: inside of h5py an exception can get lost."""
    noted = Event()
    usual = {
        number: signal.signal(number, lambda *_: noted.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def until(noted: Event, stream: Iterable) -> Iterator:
    """The items of a stream; KeyboardInterrupt between two of them once `noted` is set."""
    for item in stream:
        if noted.is_set():
            raise KeyboardInterrupt
        yield item


def ignore_interrupts(*_: object) -> None:
    """A worker takes no notice of Ctrl-C, which reaches it too: the parent lets it go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
