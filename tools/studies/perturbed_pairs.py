"""Perturbed pairs for tools/robustness.py, one batch per (perturbation, severity)."""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from configs import Config
from data.dataset import Batch, ChangeCaptions, make_loader, views_of
from data.perturbations.apply import perturb
from data.splits import map_classes_of
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.detecting import detected_maps
from tools.engine.progress_bar import progress_bar
from tools.studies.perturbation_scores import CLEAN, Cell


class PerturbedPairs(Dataset):
    """Pairs under the perturbation of each cell; samples are indexed by (cell index, pair index).

    maps: replace the maps of the pairs, (pairs, 2, 3, H, W) uint8. A sample has views (4, 3, H, W) uint8 and
    index (), the row of the pair in the file.
    """

    def __init__(
        self,
        pairs: ChangeCaptions,
        cells: Sequence[Cell],
        *,
        split: str,
        seed: int,
        maps: np.ndarray | None = None,
    ) -> None:
        self.pairs, self.cells, self.split, self.seed, self.maps = pairs, cells, split, seed, maps
        self.classes = map_classes_of(pairs.reader, [cell.name for cell in cells])

    def __getitem__(self, index: tuple[int, int]) -> Batch:
        cell_index, pair_index = index
        cell, sample = self.cells[cell_index], self.pairs[pair_index]
        views = sample["views"].numpy()
        if self.maps is not None:
            views[2:] = self.maps[pair_index]
        seed = perturbation_seed(self.seed, self.split, cell.name, int(sample["index"]))
        altered = perturb(views, cell.name, cell.severity, seed=seed, classes=self.classes)
        return {**sample, "views": torch.from_numpy(altered)}


def perturbation_seed(seed: int, split: str, name: str, row: int) -> tuple[int, ...]:
    """The seed of a perturbation of a pair; it does not depend on the severity."""
    return seed, crc32(split.encode()), crc32(name.encode()), row


def show_cells(
    pairs: ChangeCaptions,
    cells: Sequence[Cell],
    *,
    split: str,
    seed: int,
    config: Config,
    device: torch.device,
    detector: ChangeDetector | None = None,
) -> Iterator[tuple[Cell, list[int], Tensor, Tensor]]:
    """Yield a batch of pairs in every cell, the clean cell first, then the next batch of pairs.

    Yields the cell, the rows of the pairs, their views (B, 4, 3, H, W) uint8 on the device, and which views
    differ from the clean ones, (B, 4) bool. detector: predicts the maps from the images; maps of clean images
    are predicted once.
    """
    order = batches(len(pairs), len(cells), config.decode.batch_size)
    with tempfile.TemporaryFile() as file:
        maps = detected_on_disk(detector, pairs, config, file) if detector else None
        samples = PerturbedPairs(pairs, cells, split=split, seed=seed, maps=maps)
        loader = make_loader(samples, config.data, batch_sampler=order)
        for indices, batch in zip(order, progress_bar(loader, "captioning", unit="batch"), strict=True):
            cell, views = cells[indices[0][0]], views_of(batch, device)
            if cell == CLEAN:
                clean = views
            if detector:
                with autocast(device, config.decode.precision):
                    update_maps(detector, clean, views)
            yield cell, batch["index"].tolist(), views, (views != clean).flatten(2).any(2)


def detected_on_disk(
    detector: ChangeDetector, pairs: ChangeCaptions, config: Config, file: IO[bytes]
) -> np.ndarray:
    """The maps predicted from the clean images, (pairs, 2, 3, H, W) uint8, as a memory-mapped file.

    The maps of a split may be larger than memory.
    """
    shape = (len(pairs), 2, 3, *pairs.reader.image_size)
    if hasattr(os, "posix_fallocate"):  # raises on a full disk, which would kill the process later
        os.posix_fallocate(file.fileno(), 0, math.prod(shape))
    maps = np.memmap(file, dtype=np.uint8, mode="r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    done = 0
    for batch in detected_maps(detector, pairs, config):
        maps[done : done + len(batch)] = batch
        done += len(batch)
    return maps


def batches(pairs: int, cells: int, size: int) -> list[list[tuple[int, int]]]:
    """The (cell index, pair index) of each batch: `size` pairs in every cell, then the next pairs.

    In this order, only the clean views of the current pairs must be kept.
    """
    order = []
    for first in range(0, pairs, size):
        for cell in range(cells):
            order.append([(cell, pair) for pair in range(first, min(first + size, pairs))])
    return order


def update_maps(detector: ChangeDetector, clean: Tensor, views: Tensor) -> None:
    """Replace the maps of pairs whose images were perturbed by the maps predicted from these images.

    clean, views: (B, 4, 3, H, W) uint8; `views` is modified in place.
    """
    altered = (views[:, :2] != clean[:, :2]).flatten(1).any(1)
    if altered.any():
        views[altered, 2:] = detector.detect(views[altered]).to(views.device)
