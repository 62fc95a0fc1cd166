"""Maps for pairs that have none: a change detector finds them in the pairs' images."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from configs import Config
from data.atomic_write import atomic_write
from data.images import resize_map, stack_views
from data.pair_table import Entry
from models import pick_device
from models.precision import autocast
from tools.engine.checkpoint import open_detector


class MapFinder:
    """A change detector for those of `entries` that have no maps; there must be one.

    checkpoint: the detector's. maps_to: a folder that gets the maps, as A/<name of img_A>.png and B/<name of
    img_B>.png. size: (H, W) that the captioning model takes; the detector must have learnt on the same.
    """

    def __init__(
        self,
        checkpoint: Path,
        maps_to: Path | None,
        entries: Sequence[Entry],
        size: tuple[int, int],
        config: Config,
    ) -> None:
        self.detector = open_detector(checkpoint, size, pick_device(config.decode.device))
        self.maps_to, self.size, self.precision = maps_to, size, config.decode.precision
        absent = [entry for entry in entries if entry["seg_B"] is None]
        if not absent:
            raise ValueError("--detector finds absent maps, here all are given: leave it out, or the maps")
        names = Counter(self._files(entry) for entry in absent) if maps_to else {}
        for (before, _), count in names.items():
            if count > 1:
                raise ValueError(
                    f"--maps_to needs pairs of different names, {count} would be {before}: rename the images"
                )

    def _files(self, entry: Entry) -> tuple[Path, Path]:
        """Where the two maps of a pair go."""
        before, after = (self.maps_to / date / f"{entry[f'img_{date}'].stem}.png" for date in "AB")
        return before, after

    def complete(self, entries: Sequence[Entry], pairs: Sequence[list[np.ndarray]]) -> None:
        """Put the maps found, as large as the images, in the places of absent ones; save them if asked to.

        pairs: the views of each entry, (H, W, 3) uint8.
        """
        absent = [number for number, entry in enumerate(entries) if entry["seg_B"] is None]
        if not absent:
            return
        views = np.stack([stack_views(pairs[number], self.size) for number in absent])
        with autocast(self.detector.mean.device, self.precision):
            found = self.detector.detect(torch.from_numpy(views).to(self.detector.mean.device))
        for number, maps in zip(absent, found.permute(0, 1, 3, 4, 2).numpy(), strict=True):
            pairs[number][2:] = [resize_map(one, pairs[number][0].shape[:2]) for one in maps]
            if self.maps_to:
                self._save(entries[number], pairs[number][2:])

    def _save(self, entry: Entry, maps: Sequence[np.ndarray]) -> None:
        for path, one in zip(self._files(entry), maps, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                Image.fromarray(one).save(partial, "PNG")
            print(f"map in {path}", file=sys.stderr)
