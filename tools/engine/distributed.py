"""One process, or several that torchrun started: who am I, and how do we agree."""

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
    """All processes call it together; returns whether one of them is done.

    KeyboardInterrupt in all of them where one has received a signal.
    """

    def __call__(self, done: bool = False) -> bool: ...


@dataclass(frozen=True)
class Processes:
    """rank: this process's number; only rank 0 writes. count: how many there are, 1 without torchrun."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Meet the other processes of torchrun: NCCL for what is on GPUs, gloo for what is on CPUs."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return cls(int(os.environ.get("RANK", 0)), count)

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        if self.count == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(totals)
        return totals.tolist()

    def gather(self, item: Any) -> list[Any]:
        """Every process's item, in order of rank."""
        items = [item] * self.count
        if self.count > 1:
            dist.all_gather_object(items, item)
        return items

    @contextmanager
    def together(self) -> Iterator[None]:
        """A UserError or OSError that ends the block in one process ends it in all of them."""
        error = None
        try:
            yield
        except (ValueError, OSError) as own:
            error = own
        errors = self.gather(str(error) if error else None)
        if error:
            raise error
        for message in errors:
            if message:
                raise UserError(message)

    def in_first(self, work: Callable[[], T], agree: Agree) -> T | None:
        """The result of `work`, which the first process calls; None in the others.

        Until it ends, the others answer each `agree` that it calls.
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
        """The batches of this process's share of `samples`; every process calls `agree` equally often."""
        for batch in loader:
            yield batch
            if agree:
                agree()
        most = math.ceil(math.ceil(samples / self.count) / loader.batch_size)
        for _ in range(most - len(loader) if agree else 0):
            agree()

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


def in_parallel(model: nn.Module, processes: Processes) -> nn.Module:
    """The model itself in one process; in several, one whose BatchNorm statistics and gradients are those of
    all processes' samples."""
    if processes.count == 1:
        return model
    share_batchnorm(model)
    return DistributedDataParallel(model, forward_sync_buffers=False)  # buffers stay equal without it


def split_batch(batch: Batch, samples: int, accumulate: int, processes: Processes) -> list[Batch]:
    """This process's share of a batch in micro-batches, which may be empty; all processes make equally many.

    They are this process's shares of the micro-batches into which a single process would split the whole
    batch of `samples`, whose sample i belongs to process i modulo their number.
    """
    count = min(accumulate, samples)
    size, larger = divmod(samples, count)  # the first `larger` ones hold one more
    bounds = [place * size + min(place, larger) for place in range(count + 1)]
    places = [(bound - processes.rank + processes.count - 1) // processes.count for bound in bounds]
    return [{name: values[first:end] for name, values in batch.items()} for first, end in pairwise(places)]
