"""One process, or several that torchrun started: who am I, and how do we agree."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from configs import Config, ModelConfig

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
        """A ValueError or OSError that ends the block in one process ends it in all of them."""
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
                raise ValueError(message)

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


def has_live_batchnorm(model: ModelConfig) -> bool:
    """Whether training updates the statistics of any BatchNorm."""
    return model.trunk_batchnorm == "live" or (model.name == "mmodalcc" and model.block_batchnorm == "live")


def check_batchnorm(config: Config, processes: Processes, device: torch.device) -> None:
    """ValueError where several processes cannot compute BatchNorm's statistics together.

    A divided batch needs SyncBatchNorm, which torch has for GPUs only, and every process must call it equally
    often: with `train.accumulate`, unequal shares give different numbers of portions.
    """
    live = has_live_batchnorm(config.model)
    if processes.count > 1 and live and config.train.accumulate > 1:
        raise ValueError(
            f"train.accumulate must be 1 where several processes share live BatchNorm's statistics, got "
            f"{config.train.accumulate}: save memory by more GPUs or --train.precision bf16, or freeze them "
            "with --model.trunk_batchnorm frozen --model.block_batchnorm frozen"
        )
    if processes.count > 1 and device.type == "cpu" and live:
        raise ValueError(
            "several processes on CPUs cannot share live BatchNorm's statistics: train in one process, on "
            "GPUs or with --model.trunk_batchnorm frozen --model.block_batchnorm frozen"
        )


def in_parallel(model: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """The model as it is in one process; with gradients averaged over processes where there are several."""
    if processes.count == 1:
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model)
