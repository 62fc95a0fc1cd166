"""Samples and batches for training and decoding, read from one split's HDF5 file."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from data.augmentation import Augmentation
from data.errors import UserError
from data.packed_maps import PackedViews
from data.sampler import SPARE, Draw
from data.settings import DataConfig
from data.splits import Reader, SplitViews
from data.views import plain_colours, plain_dates, unpack_maps
from data.workers import ignore_interrupts, interrupts_blocked

Batch = dict[str, Tensor]
SHARED_MEMORY = Path("/dev/shm")
MOST_PREPARED = 2  # batches that a worker prefetches: torch's default


class ChangeCaptions(Dataset):
    """The pairs of one split, or its (pair, caption) samples; images stay uint8.

    rows: the rows of the file that are used. captions: "none" (pairs only), "one" (a sample is one caption of
    a pair) or "all" (a sample is a pair with its K captions). maps: "given" (the file's), "detected"
    (data.detected_maps) or "void" (both black). images_of: for each row, the row whose views are used instead
    (eval.py --shuffle_images). augment: applied to samples that are requested by a Draw, not by an integer.

    A sample has views (4, 3, H, W) uint8 or kept features, index (), which is the row of the pair, and tokens
    (1 or K, T) unless captions="none".
    """

    def __init__(
        self,
        reader: Reader,
        *,
        rows: Sequence[int],
        captions: str,
        maps: str = "given",
        images_of: Sequence[int] | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        self.reader, self.captions, self.maps, self.augment = reader, captions, maps, augment
        self.split_views = SplitViews(reader, maps)
        self.rows = list(rows)
        self.images_of = dict(zip(self.rows, self.rows if images_of is None else images_of, strict=True))
        self.captions_per_pair = reader.tokens.shape[1]
        self.features: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows) * (self.captions_per_pair if self.captions == "one" else 1)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of the files that the samples are read from, by file name."""
        return self.split_views.fingerprints

    def __getitem__(self, draw: int | Draw) -> Batch:
        """A sample, see the class."""
        views, sample = self._read(draw)
        if isinstance(views, PackedViews):
            return {"views": torch.from_numpy(views.unpacked()), **sample}
        return {"features": views, **sample}

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[Batch]:
        """Samples for `collate`, with `images` (2, 3, H, W) and `maps` instead of views.

        Maps are packed (H, W) uint8, see data/packed_maps.py, or (2, 3, H, W) if that is not possible.
        """
        samples = []
        for draw in draws:
            views, sample = self._read(draw)
            if isinstance(views, PackedViews):
                images, maps = map(torch.from_numpy, views.packed())
                samples.append({"images": images, "maps": maps, **sample})
            else:
                samples.append({"features": views, **sample})
        return samples

    @property
    def all_packed(self) -> bool:
        """Whether the maps of all samples are known to be in the palette."""
        return self.maps != "given" or self.reader.all_packed(sorted(set(self.images_of.values())))

    def _read(self, draw: int | Draw) -> tuple[PackedViews | Tensor, Batch]:
        """The views of a sample, or their kept features, and its other entries."""
        sample = draw.sample if isinstance(draw, Draw) else draw
        if self.captions == "one":
            pair, caption = divmod(sample, self.captions_per_pair)
            captions = slice(caption, caption + 1)
        else:
            pair = sample
            captions = slice(None) if self.captions == "all" else slice(0)
        row = self.rows[pair]
        views = self.features[row] if row in self.features else self._views(row)
        tokens = self.reader.tokens[row, captions]
        if sample == SPARE:
            tokens = np.full_like(tokens, self.reader.vocabulary.pad)
        elif self.augment and isinstance(draw, Draw):
            views, tokens = self.augment(views, tokens, *draw)
        batch = {"index": torch.tensor(SPARE if sample == SPARE else row)}
        if self.captions != "none":
            batch["tokens"] = torch.from_numpy(tokens.astype(np.int64))
        return views, batch

    def _views(self, row: int) -> PackedViews:
        return self.split_views.packed(self.images_of[row])

    def views_at(self, row: int) -> Tensor:
        """The views (4, 3, H, W) uint8 that are used for a row of the file."""
        return torch.from_numpy(self._views(row).unpacked())

    def keep_features(self, features: Tensor) -> None:
        """Replace views by the precomputed features of a frozen trunk, in the order of `rows`."""
        self.features = dict(zip(self.rows, features, strict=True))


def augmented_remark(val_samples: ChangeCaptions) -> list[str]:
    """A line with the number of augmented validation pairs; empty if there are none."""
    augmented = int(val_samples.reader.augmented[val_samples.rows].sum())
    return [f"{augmented} of the val pairs are augmented: data.augmented_splits"] if augmented else []


class Loader(DataLoader):
    """A DataLoader whose workers ignore Ctrl-C and SIGTERM from the start.

    Its batches are copies, so that only prefetched batches occupy shared memory.
    """

    def __iter__(self) -> Iterator[Batch]:
        with interrupts_blocked():
            batches = super().__iter__()
        return map(_copied, batches) if self.num_workers and not self.pin_memory else batches


def _copied(batch: Batch) -> Batch:
    return {name: values.clone() for name, values in batch.items()}


def collate(samples: list[Batch]) -> Batch:
    """Collate samples into a batch; `views_of` returns its views (B, 4, 3, H, W).

    The batch has either kept `features` or `plain` (B, 4), the `plain_colours` of the views. If the maps of
    all samples are packed, it has `images` (B, 2, 3, H, W) and `maps` (B, H, W) instead of `views`.
    """
    if "maps" in samples[0] and any(sample["maps"].dim() > 2 for sample in samples):
        samples = [_with_views(**sample) for sample in samples]
    batch = default_collate(samples)
    if "features" in batch:
        return batch
    if "views" in batch:
        plain = plain_colours(batch["views"])
    else:
        plain = torch.cat([plain_colours(batch["images"]), plain_dates(batch["maps"])], dim=1)
    return {**batch, "plain": plain}


def _with_views(images: Tensor, maps: Tensor, **rest: Tensor) -> Batch:
    """The sample with views (4, 3, H, W) instead of images and maps."""
    views = PackedViews(images.numpy(), maps.numpy()).unpacked()
    return {"views": torch.from_numpy(views), **rest}


def views_of(batch: Batch, device: torch.device) -> Tensor:
    """The views (B, 4, 3, H, W) uint8 of a batch on a device; maps are unpacked there."""
    if "views" in batch:
        return batch["views"].to(device, non_blocking=True)
    images, maps = (batch[name].to(device, non_blocking=True) for name in ("images", "maps"))
    return torch.cat([images, unpack_maps(maps)], dim=1)


def worker_settings(sample: Batch, batch_size: int, workers: int) -> tuple[int, int | None]:
    """The number of workers (at most `workers`) and of prefetched batches that fit into shared memory.

    Workers pass batches through /dev/shm, which has 64 MB in a Docker container by default. Kept features are
    in memory already and need no workers. UserError if there is no room for a single worker.
    """
    if "features" in sample:
        return 0, None
    if not SHARED_MEMORY.is_dir():  # Windows, macOS
        return workers, MOST_PREPARED
    size = batch_size * sum(values.nbytes for values in sample.values())
    free = shutil.disk_usage(SHARED_MEMORY).free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    room = int(0.9 * free) // size - 1  # one more batch is being copied while the workers prepare theirs
    if room < 1:
        raise UserError(
            f"{SHARED_MEMORY} must have room for two batches of {size / 1e6:.0f} MB in each process, it has "
            f"{free / 1e6:.0f} MB: give --data.workers 0, or start the container with a larger --shm-size"
        )
    workers = min(workers, room)
    return workers, min(MOST_PREPARED, room // workers)


def fewer_workers_remark(loader: DataLoader, asked: int) -> list[str]:
    """A line if `make_loader` uses fewer workers than `asked` for lack of shared memory."""
    if loader.num_workers == 0 or loader.num_workers >= asked:
        return []
    return [
        f"data.workers {asked}: reduced to {loader.num_workers} because {SHARED_MEMORY} has no room for the "
        "batches of more workers: enlarge it, in Docker with docker run --shm-size=1g"
    ]


def _largest_sample(dataset: Dataset, index: Any) -> Batch:
    """A sample of the largest size: packed only if all samples are packed."""
    source = dataset.dataset if isinstance(dataset, Subset) else dataset
    if isinstance(source, ChangeCaptions) and source.all_packed:
        (sample,) = dataset.__getitems__([index])
        return sample
    return dataset[index]


def make_loader(
    dataset: Dataset, config: DataConfig, *, batch_size: int = 1, batch_sampler: Iterable[list] | None = None
) -> DataLoader:
    """A loader of batches in order, or in the order of a sampler.

    It does not use torch's global random generator. batch_sampler: no batch may be larger than the first one.
    UserError as in `worker_settings`.
    """
    order = {"batch_sampler": batch_sampler} if batch_sampler else {"batch_size": batch_size}
    largest = next(iter(batch_sampler)) if batch_sampler else range(min(batch_size, len(dataset)))
    workers, prepared = 0, None
    if config.workers and largest:
        workers, prepared = worker_settings(
            _largest_sample(dataset, largest[0]), len(largest), config.workers
        )
    return Loader(
        dataset,
        **order,
        collate_fn=collate,
        generator=torch.Generator(),
        num_workers=workers,
        prefetch_factor=prepared,
        worker_init_fn=ignore_interrupts,
        persistent_workers=batch_sampler is not None and workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
