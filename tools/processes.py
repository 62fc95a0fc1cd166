"""One process, or several that torchrun started: who am I, and how do we agree."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """rank: this process's number; only rank 0 writes. count: how many there are, 1 without torchrun."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Meet the other processes of torchrun: NCCL on GPUs, gloo on CPUs."""
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(int(os.environ.get("RANK", 0)), count)

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float, device: torch.device | str = "cpu") -> list[float]:
        """Each value summed over all processes."""
        if self.count == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=device)
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
