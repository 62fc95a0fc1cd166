"""Shuffled batches of samples; the order does not depend on the number of processes."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

SPARE = -1  # index of an all-padding sample that contributes nothing to the loss


class Draw(NamedTuple):
    """A sample drawn in training; its augmentation depends on the epoch."""

    epoch: int
    sample: int


class StepSampler(Sampler[list[Draw]]):
    """The shuffled samples of each step of one epoch, as Draws; with several processes, this rank's share.

    The order depends on seed and epoch only, so an epoch can be resumed at any step (`begin`) by any number
    of processes. If the last, smaller batch has no sample for a process, the process gets a SPARE sample.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, rank: int = 0, count: int = 1) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.count = rank, count
        self.steps = math.ceil(samples / batch_size)
        self.begin(1)

    def begin(self, epoch: int, step: int = 0) -> None:
        """Let the next iteration start at step `step` of `epoch`."""
        self.epoch, self.first = epoch, step

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator).tolist()
        for step in range(self.first, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [Draw(self.epoch, sample) for sample in batch[self.rank :: self.count] or [SPARE]]
