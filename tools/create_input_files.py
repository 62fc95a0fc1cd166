"""Turn a dataset folder into the input files of training and evaluation, and print what the dataset is like.

    python tools/create_input_files.py --min_word_freq 5
    python tools/create_input_files.py --dataset_dir Levir-MCI-dataset --output_dir createdFileLEVIR

Reads SECOND-CC's layout or LEVIR-MCI's (data/sources.py). Writes one HDF5 file per split (data/hdf5.py) and
the vocabulary of the train split: all of them whole, or none.
"""

import argparse
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from threading import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from data import facts
from data.hdf5 import split_path, vocabulary_path, write_split
from data.images import read_views, stack_views
from data.sources import SPLITS, Pair, read_pairs
from data.vocabulary import Vocabulary
from tools import command

LEAST = {"min_word_freq": 0, "captions_per_image": 1, "max_length": 1, "image_size": 1, "workers": 1}
RECORDED = ("dataset_dir", "min_word_freq", "captions_per_image", "max_length", "image_size")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; ValueError where a number is out of its range."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_dir", default="SECOND_CC_dataset", help="default: %(default)s")
    parser.add_argument("--output_dir", default="createdFileBlackAUG", help="default: %(default)s")
    parser.add_argument(
        "--min_word_freq", type=int, default=5, help="know the words seen MORE often than %(default)s times"
    )
    parser.add_argument(
        "--captions_per_image", type=int, default=5, help="captions encoded for a pair: %(default)s"
    )
    parser.add_argument(
        "--max_length", type=int, default=50, help="most words of an encoded caption: %(default)s"
    )
    parser.add_argument("--image_size", type=int, default=256, help="rows and columns: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes: one per core")
    parser.add_argument("--force", action="store_true", help="replace the input files in --output_dir")
    args = parser.parse_args(argv)
    for name, least in LEAST.items():
        if getattr(args, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    output_dir = Path(args.output_dir)
    refuse_existing(output_dir, args.force)
    pairs = sorted(read_pairs(args.dataset_dir), key=lambda pair: SPLITS.index(pair.split))
    train_captions = (words for pair in pairs if pair.split == "train" for words in pair.captions)
    vocabulary = Vocabulary.build(train_captions, args.min_word_freq)
    captions = [encode(pair, vocabulary, args.captions_per_image, args.max_length) for pair in pairs]
    settings = {name: getattr(args, name) for name in RECORDED}
    with (
        published(output_dir) as folder,
        interruptions_noted() as noted,
        ProcessPoolExecutor(min(args.workers, len(pairs)), initializer=ignore_interrupts) as pool,
    ):
        decoded = in_order(pool, partial(decode, image_size=args.image_size), pairs, ahead=4 * args.workers)
        image_facts = write_splits(folder, pairs, captions, until(noted, decoded), vocabulary, settings)
    for line in (
        *facts.describe_pairs(pairs),
        *facts.describe_words(pairs, vocabulary, args.max_length),
        *facts.describe_images(pairs, image_facts),
        *facts.describe_names(pairs),
        *describe_files(output_dir, pairs),
    ):
        print(line)


def input_files(folder: Path) -> list[Path]:
    """All that a folder of input files can hold."""
    return [*(split_path(folder, split) for split in SPLITS), vocabulary_path(folder)]


def refuse_existing(output_dir: Path, force: bool) -> None:
    """ValueError where files would be replaced without --force."""
    found = [path.name for path in input_files(output_dir) if path.exists()]
    if found and not force:
        raise ValueError(
            f"{output_dir} must hold no input files yet, found {', '.join(found)}: --force replaces them"
        )


def encode(
    pair: Pair, vocabulary: Vocabulary, count: int, max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Ids (count, max_length + 2) and lengths (count) of the first captions that fit, repeats filling up.

    ValueError where none has at most `max_length` words.
    """
    fitting = [words for words in pair.captions if len(words) <= max_length]
    if not fitting:
        shortest = min(len(words) for words in pair.captions)
        raise ValueError(
            f"{pair.split} {pair.filename}: a pair needs a caption of at most {max_length} words, "
            f"the shortest has {shortest}: raise --max_length"
        )
    chosen = list(islice(cycle(fitting[:count]), count))
    return [vocabulary.encode(words, max_length) for words in chosen], [len(words) + 2 for words in chosen]


@contextmanager
def published(output_dir: Path) -> Iterator[Path]:
    """A folder to write into. If the block ends well, its files replace those of `output_dir`.

    A split that the new files lack disappears from `output_dir`: it would belong to another vocabulary.
    """
    is_new = not output_dir.exists()
    folder = output_dir / ".incomplete"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        for path in input_files(output_dir):
            fresh = folder / path.name
            if fresh.exists():
                fresh.replace(path)
            else:
                path.unlink(missing_ok=True)
        is_new = False
    finally:
        shutil.rmtree(output_dir if is_new else folder)


def write_splits(
    folder: Path,
    pairs: Sequence[Pair],
    captions: Sequence[tuple],
    decoded: Iterable[tuple],
    vocabulary: Vocabulary,
    settings: dict,
) -> list[facts.ImageFacts]:
    """Write the vocabulary and every split that has pairs; return what `decoded` tells about the images.

    `captions` holds what `encode` gives for each pair, `decoded` yields what `decode` gives for it.
    """
    vocabulary.save(vocabulary_path(folder))
    image_facts = []
    views = noting(tqdm(decoded, total=len(pairs), unit="pair", disable=None), image_facts)
    for split in SPLITS:
        rows = [row for row, pair in enumerate(pairs) if pair.split == split]
        if rows:
            write_split(
                split_path(folder, split),
                pairs=[pairs[row] for row in rows],
                views=islice(views, len(rows)),
                image_size=(settings["image_size"],) * 2,
                tokens=np.array([captions[row][0] for row in rows]),
                lengths=np.array([captions[row][1] for row in rows]),
                vocabulary=vocabulary,
                settings=settings,
            )
    return image_facts


def decode(pair: Pair, image_size: int) -> tuple[np.ndarray, facts.ImageFacts]:
    """A pair's views (4, 3, image_size, image_size) uint8 and what there is to know about its images."""
    views = read_views(pair.views, pair.label)
    return stack_views(views, (image_size, image_size)), facts.image_facts(views)


def in_order(pool: Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """`map` over a pool that starts at once and holds at most `ahead` results, so that memory stays flat."""
    items = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(items, ahead))

    def results() -> Iterator:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))

    return results()


def noting(stream: Iterable[tuple[np.ndarray, facts.ImageFacts]], notes: list) -> Iterator[np.ndarray]:
    """The views of a stream of decoded pairs; their facts are appended to `notes`."""
    for views, found in stream:
        notes.append(found)
        yield views


@contextmanager
def interruptions_noted() -> Iterator[Event]:
    """An event that Ctrl-C or SIGTERM sets. They raise nothing: inside of h5py an exception can get lost."""
    noted = Event()
    usual = {
        number: signal.signal(number, lambda *_: noted.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def until(noted: Event, stream: Iterable) -> Iterator:
    """The items of a stream; KeyboardInterrupt between two of them once `noted` is set."""
    for item in stream:
        if noted.is_set():
            raise KeyboardInterrupt
        yield item


def ignore_interrupts() -> None:
    """A worker takes no notice of Ctrl-C, which reaches it too: the parent lets it go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def describe_files(output_dir: Path, pairs: Sequence[Pair]) -> Iterator[str]:
    """What was written, and how large."""
    for split in SPLITS:
        count = sum(pair.split == split for pair in pairs)
        if count:
            path = split_path(output_dir, split)
            yield f"wrote {path}: {path.stat().st_size / count / 1000:.0f} kB a pair"
    yield f"wrote {vocabulary_path(output_dir)}"


if __name__ == "__main__":
    command.run(main)
