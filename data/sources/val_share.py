"""A val split made of a share of the training pairs, for data sets without one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.errors import UserError
from data.sources.pair import Pair, source_of

SEED = 0


def with_val_share(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """The pairs, of which at least this share of the training pairs, by source image, becomes val.

    All pairs of a source image move together, with their augmented copies. The choice depends on the names of
    the source images only. UserError if there is a val split, or fewer than two source images in train.
    """
    present = {pair.split for pair in pairs}
    if "val" in present:
        raise UserError(f"--val_share {share} is for data sets without val pairs, this one has some: omit it")
    counts = Counter(source_of(pair.filename, pair.source) for pair in pairs if pair.split == "train")
    sources = sorted(counts)
    if len(sources) < 2:
        raise UserError(
            f"--val_share {share} needs training pairs of two source images, got {len(sources)}: give some "
            "pairs the split val"
        )
    needed, chosen = share * counts.total(), set()
    for index in np.random.default_rng(SEED).permutation(len(sources))[:-1]:  # at least one stays in train
        if needed > 0:
            chosen.add(sources[index])
            needed -= counts[sources[index]]
    return [replace(pair, split="val") if _is_chosen(pair, chosen) else pair for pair in pairs]


def _is_chosen(pair: Pair, sources: set[str]) -> bool:
    return pair.split == "train" and source_of(pair.filename, pair.source) in sources
