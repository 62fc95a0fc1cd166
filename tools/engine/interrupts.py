"""Deferred handling of Ctrl-C and SIGTERM in the main process."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data.workers import INTERRUPTS


@dataclass
class Interruption:
    """Whether Ctrl-C or SIGTERM has arrived. A plain flag, as signal handlers must not wait for locks."""

    arrived: bool = False


@contextmanager
def deferred_interrupts() -> Iterator[Interruption]:
    """Let Ctrl-C and SIGTERM set a flag. No exception is raised, because h5py may swallow it."""
    interruption = Interruption()

    def set_flag(*_: object) -> None:
        interruption.arrived = True

    previous = {number: signal.signal(number, set_flag) for number in INTERRUPTS}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def raise_between(interruption: Interruption, stream: Iterable) -> Iterator:
    """The items of a stream; after an interruption, KeyboardInterrupt is raised before the next item."""
    for item in stream:
        if interruption.arrived:
            raise KeyboardInterrupt
        yield item
