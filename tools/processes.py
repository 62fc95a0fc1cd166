"""One process, or several that torchrun started: who am I, and how do we agree."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from configs import ModelConfig


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

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


def check_batchnorm(model: ModelConfig, processes: Processes, device: torch.device) -> None:
    """Statistics of a batch shared out need SyncBatchNorm, which torch has for GPUs only."""
    live = model.trunk_batchnorm == "live" or (model.name == "mmodalcc" and model.block_batchnorm == "live")
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
