"""Turn a dataset folder into the input files of training and evaluation, and print what the dataset is like.

    python tools/create_input_files.py --min_word_freq 5
    python tools/create_input_files.py --dataset_dir Levir-MCI-dataset --output_dir createdFileLevirMCI
    python tools/create_input_files.py --min_word_freq 10 --format released     for the authors' released code

Reads SECOND-CC's layout or LEVIR-MCI's (data/sources.py). Writes one HDF5 file per split and the vocabulary
(data/hdf5.py), or the released set of files (data/authors_files.py): all of them whole, or none.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np
from tqdm import tqdm

from data import authors_files, hdf5
from data import dataset_facts as facts
from data.errors import UserError
from data.images import read_views, stack_views
from data.no_change import no_change_of
from data.palette import MASK_CLASSES
from data.sources import SPLITS, Pair, read_pairs
from data.vocabulary import Vocabulary
from data.workers import ignore_interrupts, in_order
from tools.engine.folder_lock import locked
from tools.engine.interrupts import deferred_interrupts, raise_between

FORMATS = {"ours": hdf5, "released": authors_files}
LEAST = {"min_word_freq": 0, "captions_per_image": 1, "max_length": 1, "image_size": 1, "workers": 1}
RECORDED = (
    "dataset_dir",
    "min_word_freq",
    "vocabulary_splits",
    "captions_per_image",
    "max_length",
    "image_size",
    "mask_class",
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The cli line; UserError where a number is out of its range."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_dir", default="SECOND_CC_dataset", help="default: %(default)s")
    parser.add_argument("--output_dir", default="createdFileBlackAUG", help="default: %(default)s")
    parser.add_argument(
        "--format",
        default="ours",
        choices=FORMATS,
        help="of the files: %(default)s; released has no place for file names, flags and people's own words",
    )
    parser.add_argument(
        "--min_word_freq", type=int, default=5, help="know the words seen MORE often than %(default)s times"
    )
    parser.add_argument(
        "--vocabulary_splits",
        choices=("train", "all"),
        help="splits whose words are counted; default: train, but all with --format released",
    )
    parser.add_argument(
        "--captions_per_image", type=int, default=5, help="captions encoded for a pair: %(default)s"
    )
    parser.add_argument(
        "--max_length", type=int, default=50, help="most words of an encoded caption: %(default)s"
    )
    parser.add_argument("--image_size", type=int, default=256, help="rows and columns: %(default)s")
    parser.add_argument(
        "--mask_class",
        choices=MASK_CLASSES,
        help="the class that masks (0 and 255, or 0 and 1) at the second date show; default: refuse masks",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes: one per core")
    parser.add_argument("--force", action="store_true", help="replace the input files in --output_dir")
    args = parser.parse_args(argv)
    args.vocabulary_splits = args.vocabulary_splits or ("all" if args.format == "released" else "train")
    for name, least in LEAST.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    output_dir = Path(args.output_dir)
    with locked(output_dir, "wait until it has ended, or give another --output_dir"):
        prepare(args, output_dir)


def prepare(args: argparse.Namespace, output_dir: Path) -> None:
    """Write the input files and print what they hold."""
    refuse_existing(output_dir, args.force)
    found = read_pairs(args.dataset_dir)
    counted = (pair.captions for pair in found if args.vocabulary_splits in ("all", pair.split))
    vocabulary = Vocabulary.build(chain.from_iterable(counted), args.min_word_freq)
    pairs, left_out = arrange(found, args)
    captions = [encode(pair, vocabulary, args.captions_per_image, args.max_length) for pair in pairs]
    settings = {name: getattr(args, name) for name in RECORDED}
    with (
        published(output_dir) as folder,
        deferred_interrupts() as interruption,
        ProcessPoolExecutor(min(args.workers, len(pairs)), initializer=ignore_interrupts) as pool,
    ):
        reader = partial(decode_into, folder, image_size=args.image_size, mask_class=args.mask_class)
        decoded = loaded(in_order(pool, reader, pairs, ahead=4 * args.workers))
        write_split = partial(
            FORMATS[args.format].write_split,
            folder,
            vocabulary=vocabulary,
            settings=settings,
            no_change=no_change_of(pairs),
        )
        image_facts, colours = write_splits(
            write_split, pairs, captions, raise_between(interruption, decoded), args.image_size
        )
    for line in (
        *facts.describe_pairs(pairs),
        *facts.describe_no_change(pairs),
        *facts.describe_left_out(left_out, args.max_length),
        *facts.describe_words(pairs, vocabulary, args.max_length, args.vocabulary_splits),
        *facts.describe_images(pairs, image_facts, colours),
        *facts.describe_names(pairs),
        *describe_files(output_dir),
    ):
        print(line)


def input_files(folder: Path) -> list[Path]:
    """The input files that a folder holds, of either format."""
    return [path for layout in FORMATS.values() for path in layout.input_files(folder)]


def refuse_existing(output_dir: Path, force: bool) -> None:
    """UserError where files would be replaced without --force."""
    found = [path.name for path in input_files(output_dir)]
    if found and not force:
        raise UserError(
            f"{output_dir} must hold no input files yet, found {', '.join(found)}: --force replaces them"
        )


def arrange(found: Sequence[Pair], args: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """The pairs split by split, and those left out.

    The released format leaves out, like the released script, the pairs whose captions are all too long; for
    ours `encode` refuses them.
    """
    pairs = sorted(found, key=lambda pair: SPLITS.index(pair.split))
    too_long = [pair for pair in pairs if min(len(words) for words in pair.captions) > args.max_length]
    left_out = too_long if args.format == "released" else []
    return [pair for pair in pairs if pair not in left_out] or pairs, left_out


def encode(
    pair: Pair, vocabulary: Vocabulary, count: int, max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Ids (count, max_length + 2) and lengths (count) of the first captions that fit, repeats filling up.

    UserError where none has at most `max_length` words.
    """
    fitting = [words for words in pair.captions if len(words) <= max_length]
    if not fitting:
        shortest = min(len(words) for words in pair.captions)
        raise UserError(
            f"{pair.split} {pair.filename}: a pair needs a caption of at most {max_length} words, "
            f"the shortest has {shortest}: raise --max_length"
        )
    chosen = list(islice(cycle(fitting[:count]), count))
    return [vocabulary.encode(words, max_length) for words in chosen], [len(words) + 2 for words in chosen]


@contextmanager
def published(output_dir: Path) -> Iterator[Path]:
    """A folder to write into. If the block ends well, its files replace those of `output_dir`.

    A file that the new ones lack disappears from `output_dir`: it would belong to another vocabulary.
    """
    folder = output_dir / ".incomplete"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        fresh = input_files(folder)
        for path in fresh:
            path.replace(output_dir / path.name)
        for path in input_files(output_dir):
            if path.name not in {new.name for new in fresh}:
                path.unlink()
    finally:
        shutil.rmtree(folder)


def write_splits(
    write_split: Callable,
    pairs: Sequence[Pair],
    captions: Sequence[tuple],
    decoded: Iterable[tuple],
    image_size: int,
) -> tuple[list[facts.ImageFacts], facts.UnknownColours]:
    """Write every split that has pairs with `write_split`; return what `decoded` tells about the images.

    `captions` holds what `encode` gives for each pair, `decoded` yields what `decode` gives for it.
    """
    image_facts, colours = [], facts.UnknownColours()
    views = noting(tqdm(decoded, total=len(pairs), unit="pair", disable=None), image_facts, colours)
    for split in SPLITS:
        rows = [row for row, pair in enumerate(pairs) if pair.split == split]
        if rows:
            write_split(
                split,
                pairs=[pairs[row] for row in rows],
                views=islice(views, len(rows)),
                image_size=(image_size, image_size),
                tokens=np.array([captions[row][0] for row in rows]),
                lengths=np.array([captions[row][1] for row in rows]),
            )
    return image_facts, colours


def decode(pair: Pair, image_size: int, mask_class: str | None) -> tuple[np.ndarray, facts.ImageFacts]:
    """A pair's views (4, 3, image_size, image_size) uint8 and what there is to know about its images."""
    views = read_views(pair.views, pair.label, mask_class)
    return stack_views(views, (image_size, image_size)), facts.image_facts(views)


def decode_into(
    folder: Path, pair: Pair, image_size: int, mask_class: str | None
) -> tuple[Path, facts.ImageFacts]:
    """`decode` in a worker process, with the views in a file of `folder`.

    The pool sends results through a pipe, of which the parent holds both ends: it would wait for ever for the
    rest of a large result whose worker was killed.
    """
    views, found = decode(pair, image_size, mask_class)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, views)
    return Path(file.name), found


def loaded(
    stream: Iterable[tuple[Path, facts.ImageFacts]],
) -> Iterator[tuple[np.ndarray, facts.ImageFacts]]:
    """The results of `decode_into` with their views, whose files are removed."""
    for path, found in stream:
        views = np.load(path)
        path.unlink()
        yield views, found


def noting(
    stream: Iterable[tuple[np.ndarray, facts.ImageFacts]], notes: list, colours: facts.UnknownColours
) -> Iterator[np.ndarray]:
    """The views of a stream of decoded pairs; their facts are appended to `notes`.

    The colours of the maps are only counted, in `colours`, so that memory stays flat.
    """
    for views, found in stream:
        for unknown in found.unknown:
            colours.add(unknown)
        notes.append(replace(found, unknown=({}, {})))
        yield views


def describe_files(output_dir: Path) -> Iterator[str]:
    """What was written, and how large."""
    for path in input_files(output_dir):
        yield f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    cli.run(main)
