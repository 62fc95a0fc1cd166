"""Samples and batches for training and decoding, read from one split's HDF5 file."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from configs import DataConfig
from data.hdf5 import SplitReader, split_path

Batch = dict[str, Tensor]


class ChangeCaptions(Dataset):
    """Pairs of one split, or (pair, caption) samples of it; images stay uint8.

    rows: the pairs used, as places in the file. captions: "none" (pairs alone), "one" (a sample is one
    caption of one pair) or "all" (a sample is a pair with its K captions). void_maps: both maps black,
    whatever the file holds.
    images_of: for each row the pair whose views are shown in its place (the control of eval.py
    --shuffle_images).
    A sample: views (4, 3, H, W) uint8, index () the pair's place in the file, tokens (1 or K, T) unless
    captions="none".
    """

    def __init__(
        self,
        reader: SplitReader,
        *,
        rows: Sequence[int],
        captions: str,
        void_maps: bool = False,
        images_of: Sequence[int] | None = None,
    ) -> None:
        self.reader, self.captions, self.void_maps = reader, captions, void_maps
        self.rows = list(rows)
        self.images_of = dict(zip(self.rows, self.rows if images_of is None else images_of, strict=True))
        self.captions_per_pair = reader.tokens.shape[1]
        self.features: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows) * (self.captions_per_pair if self.captions == "one" else 1)

    def __getitem__(self, sample: int) -> Batch:
        pair, caption = divmod(sample, self.captions_per_pair) if self.captions == "one" else (sample, None)
        row = self.rows[pair]
        batch = {"views": self._views(row), "index": torch.tensor(row)}
        if self.captions != "none":
            chosen = slice(None) if caption is None else slice(caption, caption + 1)
            batch["tokens"] = torch.from_numpy(self.reader.tokens[row, chosen].astype(np.int64))
        return batch

    def _views(self, row: int) -> Tensor:
        if row in self.features:
            return self.features[row]
        views = self.reader.views(self.images_of[row])
        if self.void_maps:
            views[2:] = 0
        return torch.from_numpy(views)

    def keep_features(self, features: Callable[[Tensor], Tensor]) -> None:
        """Replace every pair's views by `features(views (1, 4, 3, H, W))`, computed once; for a trunk that
        never changes."""
        for row in tqdm(self.rows, desc="trunk features", unit="pair", leave=False):
            self.features[row] = features(self._views(row).unsqueeze(0)).squeeze(0).cpu()


def used_rows(reader: SplitReader, split: str, config: DataConfig) -> list[int]:
    """Places of the pairs in use: augmented rows only in the splits that `data.augmented_splits` names."""
    keep = ~reader.augmented | (split in config.augmented_splits)
    return np.flatnonzero(keep).tolist()


def open_split(split: str, config: DataConfig) -> tuple[SplitReader, list[int]]:
    """One split of `data.dir` and the places of its pairs in use; ValueError where none is left."""
    path = split_path(config.dir, split)
    reader = SplitReader(path)
    rows = used_rows(reader, split, config)
    if not rows:
        raise ValueError(
            f"{path} holds no pair in use: its rows are all augmented, see data.augmented_splits"
        )
    return reader, rows


def make_loader(
    dataset: ChangeCaptions, config: DataConfig, *, batch_size: int, generator=None
) -> DataLoader:
    """Batches of `batch_size` samples; in order without a generator, shuffled by one."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=generator is not None,
        generator=generator,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
