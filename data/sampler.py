"""The shuffled samples of each training step, the same for any number of processes."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

SPARE = -1  # a sample whose captions are all padding and whose index is this: it counts for nothing


class Draw(NamedTuple):
    """A sample as training draws it: what augmentation makes of it differs from epoch to epoch."""

    epoch: int
    sample: int


class StepSampler(Sampler[list[Draw]]):
    """The shuffled samples of each step of one epoch, as Draws, or one process's share of them.

    The order depends on seed and epoch alone, so that an epoch can be entered at any step (`begin`), by any
    number of processes. A process for which the last, smaller batch leaves nothing takes part with a SPARE
    sample.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, rank: int = 0, count: int = 1) -> None:
        self.samples, self.batch_size, self.seed, self.rank, self.count = (
            samples,
            batch_size,
            seed,
            rank,
            count,
        )
        self.steps = math.ceil(samples / batch_size)
        self.begin(1)

    def begin(self, epoch: int, step: int = 0) -> None:
        """What the next iteration yields: the rest of `epoch` after `step` steps."""
        self.epoch, self.first = epoch, step

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator).tolist()
        for step in range(self.first, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [Draw(self.epoch, sample) for sample in batch[self.rank :: self.count] or [SPARE]]
