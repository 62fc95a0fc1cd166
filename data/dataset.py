"""Samples and batches for training and decoding, read from one split's HDF5 file."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from configs import Config, DataConfig
from data import hdf5, released_files
from data.hdf5 import SplitReader, split_path
from data.released_files import ReleasedReader
from tools.workers import ignore_interrupts

Batch = dict[str, Tensor]
SPARE = -1  # a sample whose captions are all padding: it counts for nothing
Reader = SplitReader | ReleasedReader


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
        reader: Reader,
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
            tokens = torch.from_numpy(self.reader.tokens[row, chosen].astype(np.int64))
            batch["tokens"] = (
                torch.full_like(tokens, self.reader.vocabulary.pad) if sample == SPARE else tokens
            )
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


def used_rows(reader: Reader, split: str, config: DataConfig) -> list[int]:
    """Places of the pairs in use: augmented rows only in the splits that `data.augmented_splits` names."""
    keep = ~reader.augmented | (split in config.augmented_splits)
    return np.flatnonzero(keep).tolist()


def open_reader(split: str, config: DataConfig) -> Reader:
    """One split of `data.dir`, which holds our files or the released ones."""
    own, released = hdf5.input_files(config.dir), released_files.input_files(config.dir)
    if own and released:
        raise ValueError(
            f"{config.dir} must hold one kind of input files, found {own[0].name} and {released[0].name}: "
            "give each its own folder"
        )
    if released:
        return ReleasedReader(config.dir, split, config.annotations)
    return SplitReader(split_path(config.dir, split))


def open_split(split: str, config: DataConfig) -> tuple[Reader, list[int]]:
    """One split of `data.dir` and the places of its pairs in use; ValueError where none is left."""
    reader = open_reader(split, config)
    rows = used_rows(reader, split, config)
    if not rows:
        raise ValueError(
            f"{reader.path} holds no pair in use: its rows are all augmented, see data.augmented_splits"
        )
    return reader, rows


def open_samples(split: str, config: Config) -> ChangeCaptions:
    """What train.py reads: samples of train as `train.captions_per_step` says, else pairs."""
    reader, rows = open_split(split, config.data)
    captions = config.train.captions_per_step if split == "train" else "none"
    return ChangeCaptions(reader, rows=rows, captions=captions, void_maps=config.data.maps == "void")


class StepSampler(Sampler[list[int]]):
    """The shuffled samples of each step of one epoch, or one process's share of them.

    The order depends on seed and epoch alone, so that an epoch can be entered at any step (`begin`), by any
    number of processes. A process for which the last, smaller batch leaves nothing takes part with a SPARE
    sample.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, rank: int = 0, count: int = 1) -> None:
        self.samples, self.batch_size, self.seed, self.rank, self.count = (
            samples,
            batch_size,
            seed,
            rank,
            count,
        )
        self.steps = math.ceil(samples / batch_size)
        self.begin(1)

    def begin(self, epoch: int, step: int = 0) -> None:
        """What the next iteration yields: the rest of `epoch` after `step` steps."""
        self.epoch, self.first = epoch, step

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator).tolist()
        for step in range(self.first, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield batch[self.rank :: self.count] or [SPARE]


def make_loader(
    dataset: Dataset, config: DataConfig, *, batch_size: int = 1, batch_sampler: StepSampler | None = None
) -> DataLoader:
    """Batches in order, or those of a sampler. Its generator of its own leaves torch's global one alone."""
    order = {"batch_sampler": batch_sampler} if batch_sampler else {"batch_size": batch_size}
    return DataLoader(
        dataset,
        **order,
        generator=torch.Generator(),
        num_workers=config.workers,
        worker_init_fn=ignore_interrupts,
        persistent_workers=batch_sampler is not None and config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
