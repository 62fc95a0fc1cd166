"""Caption the pairs of a table or of folders batch by batch, and count what happens."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.atomic_write import atomic_write, check_writable
from data.errors import UserError
from data.maps.settings import SECOND_MAPS, MapSettings
from data.pair_files import PairFiles, read_files
from data.workers import in_order
from tools.engine.caption_output import Row
from tools.engine.predictor import Answer, Predictor

READERS = min(4, os.cpu_count() or 1)  # threads that decode the images of the next batch


@dataclass
class Tally:
    """Counts of captioned pairs, for the summary of many pairs.

    remarks: those of `read_files`.
    """

    pairs: int = 0
    changed: int = 0
    errors: int = 0
    resized: int = 0
    remarks: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def add(self, row: Row) -> None:
        self.pairs += 1
        self.changed += bool(row.changed)
        self.errors += row.error is not None

    def summary(self) -> str:
        """One line with all counts."""
        seconds = time.monotonic() - self.start
        parts = [
            f"pairs: {self.pairs}",
            f"changed: {self.changed}",
            f"unchanged: {self.pairs - self.changed - self.errors}",
            f"errors: {self.errors}" + " (see the column error)" * bool(self.errors),
            f"seconds: {seconds:.1f}",
        ]
        if self.resized:
            parts.append(f"resized: {self.resized}")
        if self.remarks:
            parts.append(f"remarks on maps: {len(self.remarks)} (one is {self.remarks[0]})")
        return ", ".join(parts)


def caption_pairs(
    predictor: Predictor,
    pairs: Sequence[PairFiles],
    tally: Tally,
    *,
    answers: int = 1,
    maps: MapSettings = SECOND_MAPS,
    maps_to: Path | None = None,
) -> Iterator[list[Row]]:
    """The rows of each batch of pairs, in order; a pair that cannot be read has a row with the error.

    Threads read the files of the next batch while the model captions the current one.
    """
    read = partial(read_or_error, maps=maps, remark=tally.remarks.append)
    for batch, contents in read_ahead(pairs, read, predictor.config.decode.batch_size):
        readable = [
            (pair, views) for pair, views in zip(batch, contents, strict=True) if isinstance(views, list)
        ]
        tally.resized += sum(views[0].shape[:2] != predictor.image_size for _, views in readable)
        captioned = iter(caption_files(predictor, readable, answers, maps_to))
        rows = []
        for pair, content in zip(batch, contents, strict=True):
            failed = isinstance(content, str)
            rows.append(Row(pair, error=content) if failed else Row.of_answer(pair, next(captioned)))
            tally.add(rows[-1])
        yield rows


def read_ahead(
    pairs: Sequence[PairFiles], read: Callable[[PairFiles], Any], batch_size: int
) -> Iterator[tuple[Sequence[PairFiles], list]]:
    """Batches of pairs, in order, with the results of `read`; threads read one batch ahead."""
    with ThreadPoolExecutor(READERS) as pool:
        files = in_order(pool, read, pairs, ahead=batch_size + 1)
        for first in range(0, len(pairs), batch_size):
            batch = pairs[first : first + batch_size]
            yield batch, list(islice(files, len(batch)))


def read_or_error(
    pair: PairFiles, maps: MapSettings, remark: Callable[[str], None]
) -> list[np.ndarray] | str:
    """The four views of a pair, or the message why they cannot be read."""
    try:
        return read_files(pair, maps, remark)
    except (UserError, OSError) as error:
        return " ".join(str(error).split())


def caption_files(
    predictor: Predictor,
    pairs: Sequence[tuple[PairFiles, list[np.ndarray]]],
    answers: int = 1,
    maps_to: Path | None = None,
) -> list[Answer]:
    """Caption pairs, given with their four views (H, W, 3) uint8 each.

    Missing maps in the views are replaced by those of the detector, and saved in the folder `maps_to`.
    """
    if not pairs:
        return []
    if predictor.detector:
        missing = [(pair, views) for pair, views in pairs if not pair.has_maps]
        predictor.find_maps([views for _, views in missing])
        if maps_to:
            for pair, views in missing:
                save_maps(maps_to, pair, views[2:])
    return predictor.caption_views(np.stack([predictor.fit(views) for _, views in pairs]), answers)


def check_missing_maps(pairs: Sequence[PairFiles], maps_to: Path | None) -> None:
    """Raise UserError if no map is missing, or if the maps of two pairs would have the same file name."""
    missing = [pair for pair in pairs if not pair.has_maps]
    if not missing:
        raise UserError("--detector predicts missing maps, but all are given: leave it out, or the maps")
    if not maps_to:
        return
    check_writable(maps_to, "--maps_to", folder=True)
    names = Counter(map_files(maps_to, pair)[0] for pair in missing)
    for before, count in names.items():
        if count > 1:
            raise UserError(
                f"--maps_to needs images of different names, {count} would give {before}: rename the images"
            )


def map_files(folder: Path, pair: PairFiles) -> tuple[Path, Path]:
    """The files for the two maps of a pair: A/<name of img_A>.png and B/<name of img_B>.png."""
    before, after = (folder / date / f"{pair.path(f'img_{date}').stem}.png" for date in "AB")
    return before, after


def save_maps(folder: Path, pair: PairFiles, maps: Sequence[np.ndarray]) -> None:
    """Save the two maps of a pair as PNG files."""
    for path, colours in zip(map_files(folder, pair), maps, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            Image.fromarray(colours).save(partial, "PNG")
