"""The input of the models of tools/robustness.py: perturbed pairs and their maps for every cell."""

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
    """Pairs as the cells of the table show them; a sample's place is (cell, pair), both as numbers.

    maps: shown in place of the pairs' own, (pairs, 2, 3, H, W) uint8. A sample: views (4, 3, H, W) uint8 and
    index () the pair's place in the file.
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

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        cell, sample = self.cells[place[0]], self.pairs[place[1]]
        views = sample["views"].numpy()
        if self.maps is not None:
            views[2:] = self.maps[place[1]]
        seed = perturbation_seed(self.seed, self.split, cell.name, int(sample["index"]))
        altered = perturb(views, cell.name, cell.severity, seed=seed, classes=self.classes)
        return {**sample, "views": torch.from_numpy(altered)}


def perturbation_seed(seed: int, split: str, name: str, row: int) -> tuple[int, ...]:
    """What decides how a perturbation alters a pair: the same at all severities, another one for every pair
    and perturbation."""
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
    """Some pairs in every cell, of which the first is the clean one; then the next pairs.

    Yields the cell, the pairs' places in the file, their views (B, 4, 3, H, W) uint8 on the device, and which
    of these are not the clean ones, (B, 4) bool. detector: finds the maps, those of clean images once.
    """
    order = batches(len(pairs), len(cells), config.decode.batch_size)
    with tempfile.TemporaryFile() as file:
        maps = detected_on_disk(detector, pairs, config, file) if detector else None
        samples = PerturbedPairs(pairs, cells, split=split, seed=seed, maps=maps)
        loader = make_loader(samples, config.data, batch_sampler=order)
        for places, batch in zip(order, progress_bar(loader, "captioning", unit="batch"), strict=True):
            cell, views = cells[places[0][0]], views_of(batch, device)
            if cell == CLEAN:
                clean = views
            if detector:
                with autocast(device, config.decode.precision):
                    find_again(detector, clean, views)
            yield cell, batch["index"].tolist(), views, (views != clean).flatten(2).any(2)


def detected_on_disk(
    detector: ChangeDetector, pairs: ChangeCaptions, config: Config, file: IO[bytes]
) -> np.ndarray:
    """The maps found in the clean images of all pairs, (pairs, 2, 3, H, W) uint8, mapped from a file.

    The maps of a whole split need not fit into memory.
    """
    shape = (len(pairs), 2, 3, *pairs.reader.image_size)
    if hasattr(os, "posix_fallocate"):  # a full disk is an OSError here, and a killed process later
        os.posix_fallocate(file.fileno(), 0, math.prod(shape))
    maps = np.memmap(file, dtype=np.uint8, mode="r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    done = 0
    for found in detected_maps(detector, pairs, config):
        maps[done : done + len(found)] = found
        done += len(found)
    return maps


def batches(pairs: int, cells: int, size: int) -> list[list[tuple[int, int]]]:
    """(cell, pair) of each batch: `size` pairs in every cell, then the next ones, so that what is clean is
    kept of these alone."""
    shares = [range(pairs)[first : first + size] for first in range(0, pairs, size)]
    return [[(cell, pair) for pair in share] for share in shares for cell in range(cells)]


def find_again(detector: ChangeDetector, clean: Tensor, views: Tensor) -> None:
    """Give the pairs whose images are not the clean ones the maps that are found in the images they have.

    clean, views: (B, 4, 3, H, W) uint8, the maps of `views` are replaced.
    """
    altered = (views[:, :2] != clean[:, :2]).flatten(1).any(1)
    if altered.any():
        views[altered, 2:] = detector.detect(views[altered]).to(views.device)
