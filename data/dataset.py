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

from data import authors_files, hdf5
from data.augmentation import Augmentation
from data.authors_files import AuthorsReader
from data.detected_maps import DetectedMaps
from data.errors import UserError
from data.hdf5 import SplitReader, split_path
from data.packed_maps import PackedViews
from data.palette import MapClasses, classes_by_date
from data.perturbations import PAINTING
from data.sampler import SPARE, Draw
from data.settings import DataConfig
from data.views import plain_colours, plain_dates, unpack_maps
from data.workers import ignore_interrupts, interrupts_blocked

Batch = dict[str, Tensor]
SHARED_MEMORY = Path("/dev/shm")
MOST_PREPARED = 2  # batches that a worker has ready: torch's default
Reader = SplitReader | AuthorsReader


class ChangeCaptions(Dataset):
    """Pairs of one split, or (pair, caption) samples of it; images stay uint8.

    rows: the pairs used, as places in the file. captions: "none" (pairs alone), "one" (a sample is one
    caption of one pair) or "all" (a sample is a pair with its K captions). maps: "given" (the
    file's), "detected" (data.detected_maps) or "void" (both black).
    images_of: for each row the pair whose views are shown in its place (the control of eval.py
    --shuffle_images). augment: what is done to a sample that is asked for by a Draw, not by a plain number.
    A sample: views (4, 3, H, W) uint8, or kept features; index () the pair's place in the file; tokens (1 or
    K, T) unless captions="none".
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
        self.detected = DetectedMaps(reader.path, reader.fingerprint) if maps == "detected" else None
        self.rows = list(rows)
        self.images_of = dict(zip(self.rows, self.rows if images_of is None else images_of, strict=True))
        self.captions_per_pair = reader.tokens.shape[1]
        self.features: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows) * (self.captions_per_pair if self.captions == "one" else 1)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the files that the samples are read from."""
        files = {self.reader.path.name: self.reader.fingerprint}
        return {**files, self.detected.path.name: self.detected.fingerprint} if self.detected else files

    def __getitem__(self, draw: int | Draw) -> Batch:
        """A sample as above."""
        views, sample = self._read(draw)
        if isinstance(views, PackedViews):
            return {"views": torch.from_numpy(views.unpacked()), **sample}
        return {"features": views, **sample}

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[Batch]:
        """What DataLoader gives to `collate`: samples with `images` (2, 3, H, W) and `maps` instead of views.

        Maps are (H, W) uint8, see data/packed_maps.py, or (2, 3, H, W) where a colour is not in the palette.
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
        """A sample's views, or their kept features, and the rest of it."""
        sample = draw.sample if isinstance(draw, Draw) else draw
        pair, caption = divmod(sample, self.captions_per_pair) if self.captions == "one" else (sample, None)
        row = self.rows[pair]
        chosen = slice(None) if caption is None else slice(caption, caption + 1)
        if self.captions == "none":
            chosen = slice(0)
        views = self.features[row] if row in self.features else self._views(row)
        tokens = self.reader.tokens[row, chosen]
        if sample == SPARE:
            tokens = np.full_like(tokens, self.reader.vocabulary.pad)
        elif self.augment and isinstance(draw, Draw):
            views, tokens = self.augment(views, tokens, *draw)
        batch = {"index": torch.tensor(SPARE if sample == SPARE else row)}
        if self.captions != "none":
            batch["tokens"] = torch.from_numpy(tokens.astype(np.int64))
        return views, batch

    def _views(self, row: int) -> PackedViews:
        views = self.reader.packed_views(self.images_of[row])
        if self.maps == "void":
            return views._replace(maps=np.zeros(views.images.shape[-2:], dtype=np.uint8))
        if self.detected:
            return views._replace(maps=self.detected.maps(self.images_of[row]))
        return views

    def views_at(self, row: int) -> Tensor:
        """The views (4, 3, H, W) uint8 that are shown for the pair at a place in the file."""
        return torch.from_numpy(self._views(row).unpacked())

    def keep_features(self, kept: Tensor) -> None:
        """Replace the views of the pairs in `rows` by kept[place], in the same order; for a trunk that never
        changes."""
        self.features = dict(zip(self.rows, kept, strict=True))


def used_rows(reader: Reader, split: str, config: DataConfig) -> list[int]:
    """Places of the pairs in use: augmented rows only in the splits that `data.augmented_splits` names."""
    keep = ~reader.augmented | (split in config.augmented_splits)
    return np.flatnonzero(keep).tolist()


def open_reader(split: str, config: DataConfig) -> Reader:
    """One split of `data.dir`, which holds our files or the released ones."""
    own, released = hdf5.input_files(config.dir), authors_files.input_files(config.dir)
    if own and released:
        raise UserError(
            f"{config.dir} must hold one kind of input files, found {own[0].name} and {released[0].name}: "
            "give each its own folder"
        )
    if released:
        return AuthorsReader(config.dir, split, config.annotations, config.no_change)
    return SplitReader(split_path(config.dir, split))


def map_classes_of(reader: Reader, perturbations: Iterable[str]) -> MapClasses:
    """The classes of a split's given maps at each date; not looked for unless one of `perturbations` paints
    classes."""
    if not PAINTING.intersection(perturbations):
        return (), ()
    return classes_by_date(reader.views(row)[2:] for row in range(len(reader)))


def check_size(reader: Reader, image_size: list[int]) -> None:
    if list(reader.image_size) != image_size:
        raise UserError(
            f"{reader.path} holds images of {reader.image_size}, the model learnt on {tuple(image_size)}: "
            f"prepare them with tools/create_input_files.py --image_size {image_size[0]}"
        )


def open_split(split: str, config: DataConfig) -> tuple[Reader, list[int]]:
    """One split of `data.dir` and the places of its pairs in use; UserError where none is left."""
    reader = open_reader(split, config)
    rows = used_rows(reader, split, config)
    if not rows:
        raise UserError(
            f"{reader.path} holds no pair in use: its rows are all augmented, see data.augmented_splits"
        )
    return reader, rows


def augmented_remark(val_samples: ChangeCaptions) -> list[str]:
    """A line that says how many validation pairs are augmented, where any are."""
    augmented = int(val_samples.reader.augmented[val_samples.rows].sum())
    return [f"{augmented} of the val pairs are augmented: data.augmented_splits"] if augmented else []


class Loader(DataLoader):
    """A DataLoader whose workers take no notice of Ctrl-C and SIGTERM from their start on.

    Its batches are copies, so that only those still to come take up shared memory.
    """

    def __iter__(self) -> Iterator[Batch]:
        with interrupts_blocked():
            batches = super().__iter__()
        return map(_copied, batches) if self.num_workers and not self.pin_memory else batches


def _copied(batch: Batch) -> Batch:
    return {name: values.clone() for name, values in batch.items()}


def collate(samples: list[Batch]) -> Batch:
    """Samples as one batch; `views_of` gives its views (B, 4, 3, H, W).

    It has `plain` (B, 4), the `plain_colours` of the views, or else kept `features`. If the maps of all
    samples are packed, the batch has `images` (B, 2, 3, H, W) and `maps` (B, H, W) instead of `views`.
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
    """A sample with views (4, 3, H, W) in the place of images and maps."""
    views = PackedViews(images.numpy(), maps.numpy()).unpacked()
    return {"views": torch.from_numpy(views), **rest}


def views_of(batch: Batch, device: torch.device) -> Tensor:
    """The views (B, 4, 3, H, W) uint8 of a batch on a device, where maps are unpacked."""
    if "views" in batch:
        return batch["views"].to(device, non_blocking=True)
    images, maps = (batch[name].to(device, non_blocking=True) for name in ("images", "maps"))
    return torch.cat([images, unpack_maps(maps)], dim=1)


def worker_settings(sample: Batch, batch_size: int, workers: int) -> tuple[int, int | None]:
    """How many workers (at most `workers`) the free shared memory has room for, and how many batches each of
    them may prepare.

    Workers hand batches over in /dev/shm, of which Docker gives a container 64 MB. Kept features, which lie
    in memory, need no workers. UserError where one worker does not fit.
    """
    if "features" in sample:
        return 0, None
    if not SHARED_MEMORY.is_dir():  # Windows, macOS
        return workers, MOST_PREPARED
    size = batch_size * sum(values.nbytes for values in sample.values())
    free = shutil.disk_usage(SHARED_MEMORY).free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    room = int(0.9 * free) // size - 1  # one more is being copied while the workers prepare theirs
    if room < 1:
        raise UserError(
            f"{SHARED_MEMORY} must have room for two batches of {size / 1e6:.0f} MB in each process, it has "
            f"{free / 1e6:.0f} MB: give --data.workers 0, or start the container with a larger --shm-size"
        )
    workers = min(workers, room)
    return workers, min(MOST_PREPARED, room // workers)


def fewer_workers_remark(loader: DataLoader, asked: int) -> list[str]:
    """A line where the free shared memory made `make_loader` take fewer workers than `asked`."""
    if loader.num_workers == 0 or loader.num_workers >= asked:
        return []
    return [
        f"data.workers {asked}: reduced to {loader.num_workers} because {SHARED_MEMORY} has no room for the "
        "batches of more workers: enlarge it, in Docker with docker run --shm-size=1g"
    ]


def _largest_sample(dataset: Dataset, place: Any) -> Batch:
    """A sample as large as any: packed only if all of them are."""
    source = dataset.dataset if isinstance(dataset, Subset) else dataset
    if isinstance(source, ChangeCaptions) and source.all_packed:
        (sample,) = dataset.__getitems__([place])
        return sample
    return dataset[place]


def make_loader(
    dataset: Dataset, config: DataConfig, *, batch_size: int = 1, batch_sampler: Iterable[list] | None = None
) -> DataLoader:
    """Batches in order, or those of a sampler, as `collate` makes them.

    Its generator of its own leaves torch's global one alone. batch_sampler: no batch may be larger than the
    first one. UserError as in `worker_settings`.
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
