"""Helpers for torch.distributed; no-ops in a single process."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from data.dataset import Batch
from data.errors import UserError
from models.shared_batchnorm import share_batchnorm

T = TypeVar("T")


class Agree(Protocol):
    """Called by all processes together; returns whether one of them is done.

    Raises KeyboardInterrupt in all processes if one of them has received a signal.
    """

    def __call__(self, done: bool = False) -> bool: ...


@dataclass(frozen=True)
class Processes:
    """The process group. rank: of this process; only rank 0 writes. count: 1 without torchrun."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join the process group of torchrun: NCCL for GPU tensors, gloo for CPU tensors."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return cls(int(os.environ.get("RANK", 0)), count)

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(totals)
        return totals.tolist()

    def gather(self, item: Any) -> list[Any]:
        """The items of all processes, in order of rank."""
        items = [item] * self.count
        if self.count > 1:
            dist.all_gather_object(items, item)
        return items

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise an error of the block in all processes if a UserError or OSError ends it in one of them."""
        local_error = None
        try:
            yield
        except (ValueError, OSError) as error:
            local_error = error
        messages = self.gather(str(local_error) if local_error else None)
        if local_error:
            raise local_error
        for message in messages:
            if message:
                raise UserError(message)

    def in_first(self, work: Callable[[], T], agree: Agree) -> T | None:
        """Call `work` in the first process and return its result; the others return None.

        Meanwhile the other processes take part in each `agree` that `work` calls.
        """
        result = None
        with self.together():
            if not self.writes:
                while not agree():
                    pass
                return None
            try:
                result = work()
            except (ValueError, OSError):
                agree(done=True)
                raise
            agree(done=True)
        return result

    def in_step(self, loader: DataLoader, samples: int, agree: Agree | None) -> Iterator[dict[str, Tensor]]:
        """The batches of this process's share of `samples`, with the same number of `agree` calls in each."""
        for batch in loader:
            yield batch
            if agree:
                agree()
        if agree:
            most_batches = math.ceil(math.ceil(samples / self.count) / loader.batch_size)
            for _ in range(most_batches - len(loader)):
                agree()

    def leave(self) -> None:
        """Leave the process group."""
        if self.count > 1:
            dist.destroy_process_group()


def in_parallel(model: nn.Module, processes: Processes) -> nn.Module:
    """Wrap a model so that gradients and BatchNorm statistics cover the samples of all processes.

    In a single process the model itself is returned.
    """
    if processes.count == 1:
        return model
    share_batchnorm(model)
    return DistributedDataParallel(model, forward_sync_buffers=False)  # buffers stay equal without it


def split_batch(batch: Batch, samples: int, accumulate: int, processes: Processes) -> list[Batch]:
    """Split this process's share of a batch into micro-batches, as many as in every other process.

    A single process would split the whole batch of `samples` into the same micro-batches. Sample i belongs to
    process i modulo the number of processes, so a share of a micro-batch may be empty.
    """
    count = min(accumulate, samples)
    size, larger = divmod(samples, count)  # the first `larger` micro-batches have one sample more
    bounds = [index * size + min(index, larger) for index in range(count + 1)]
    local_bounds = [(bound - processes.rank + processes.count - 1) // processes.count for bound in bounds]
    micro_batches = []
    for first, end in pairwise(local_bounds):
        micro_batches.append({name: values[first:end] for name, values in batch.items()})
    return micro_batches
