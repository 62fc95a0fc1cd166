"""Ctrl-C and SIGTERM in the main process: noted, and acted on where no file is half-written."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data.workers import INTERRUPTS


@dataclass
class Interruption:
    """Whether Ctrl-C or SIGTERM has arrived; a plain flag: a signal handler must not wait for a lock."""

    arrived: bool = False


@contextmanager
def interruptions_noted() -> Iterator[Interruption]:
    """Ctrl-C and SIGTERM set a flag and raise nothing: inside of h5py an exception can get lost."""
    interruption = Interruption()

    def note(*_: object) -> None:
        interruption.arrived = True

    usual = {number: signal.signal(number, note) for number in INTERRUPTS}
    try:
        yield interruption
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def until(interruption: Interruption, stream: Iterable) -> Iterator:
    """The items of a stream; KeyboardInterrupt between two of them after an interruption."""
    for item in stream:
        if interruption.arrived:
            raise KeyboardInterrupt
        yield item
