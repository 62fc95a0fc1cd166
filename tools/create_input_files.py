"""Convert a dataset folder to the input files of training and evaluation, and print dataset statistics.

    python tools/create_input_files.py --min_word_freq 5
    python tools/create_input_files.py --dataset_dir Levir-MCI-dataset --output_dir createdFileLevirMCI
    python tools/create_input_files.py --min_word_freq 10 --format released     for the authors' code

Reads the layout of SECOND-CC or LEVIR-MCI (data/sources.py). Writes one HDF5 file per split and a vocabulary
(data/hdf5.py), or the authors' set of files (data/authors_files.py). Nothing is written if anything fails.
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
from tools.engine.progress_bar import progress_bar

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
    """Parse the command line. UserError if a number is out of range."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset_dir", default="SECOND_CC_dataset", help="default: %(default)s")
    parser.add_argument("--output_dir", default="createdFileBlackAUG", help="default: %(default)s")
    parser.add_argument(
        "--format",
        default="ours",
        choices=FORMATS,
        help="file format, default: %(default)s; `released`, the authors' format, stores no file names, "
        "flags and original sentences",
    )
    parser.add_argument(
        "--min_word_freq", type=int, default=5, help="keep words that occur MORE than %(default)s times"
    )
    parser.add_argument(
        "--vocabulary_splits",
        choices=("train", "all"),
        help="splits whose words are counted; default: train, with --format released all",
    )
    parser.add_argument(
        "--captions_per_image", type=int, default=5, help="encoded captions per pair, default: %(default)s"
    )
    parser.add_argument(
        "--max_length", type=int, default=50, help="maximum words per encoded caption, default: %(default)s"
    )
    parser.add_argument("--image_size", type=int, default=256, help="height and width, default: %(default)s")
    parser.add_argument(
        "--mask_class",
        choices=MASK_CLASSES,
        help="class of masks (0 and 255, or 0 and 1) at the second date; default: refuse masks",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes; default: one per core"
    )
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
    """Write the input files and print statistics."""
    refuse_existing(output_dir, args.force)
    all_pairs = read_pairs(args.dataset_dir)
    counted = (pair.captions for pair in all_pairs if args.vocabulary_splits in ("all", pair.split))
    vocabulary = Vocabulary.build(chain.from_iterable(counted), args.min_word_freq)
    pairs, left_out = arrange(all_pairs, args)
    captions = [encode(pair, vocabulary, args.captions_per_image, args.max_length) for pair in pairs]
    settings = {name: getattr(args, name) for name in RECORDED}
    with (
        staging_folder(output_dir) as folder,
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
    """The input files of either format in a folder."""
    return [path for layout in FORMATS.values() for path in layout.input_files(folder)]


def refuse_existing(output_dir: Path, force: bool) -> None:
    """Raise UserError if files would be replaced without --force."""
    names = [path.name for path in input_files(output_dir)]
    if names and not force:
        raise UserError(
            f"{output_dir} must not hold input files, found {', '.join(names)}: --force replaces them"
        )


def arrange(pairs: Sequence[Pair], args: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """The pairs to write, ordered by split, and the pairs left out.

    Like the authors' script, the authors' format leaves out pairs whose captions are all too long. In our
    format, `encode` raises an error for such a pair.
    """
    pairs = sorted(pairs, key=lambda pair: SPLITS.index(pair.split))
    if args.format != "released":
        return pairs, []
    kept, left_out = [], []
    for pair in pairs:
        shortest = min(len(words) for words in pair.captions)
        (kept if shortest <= args.max_length else left_out).append(pair)
    return kept or pairs, left_out


def encode(
    pair: Pair, vocabulary: Vocabulary, count: int, max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Ids (count, max_length + 2) and lengths (count) of the first captions that are short enough.

    Captions are repeated if there are fewer than `count`. UserError if all have more than `max_length` words.
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
def staging_folder(output_dir: Path) -> Iterator[Path]:
    """Yield a folder to write into; if the block succeeds, its files replace those of `output_dir`.

    Other input files in `output_dir` are removed, because they belong to another vocabulary.
    """
    folder = output_dir / ".incomplete"
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
    folder.mkdir(parents=True)
    try:
        yield folder
        new_files = input_files(folder)
        for path in new_files:
            path.replace(output_dir / path.name)
        new_names = {path.name for path in new_files}
        for path in input_files(output_dir):
            if path.name not in new_names:
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
    """Write each split that has pairs with `write_split`; return the facts about the images.

    `captions` holds the result of `encode` for each pair, `decoded` yields the result of `decode` for each.
    """
    image_facts, colours = [], facts.UnknownColours()
    views = collect_facts(progress_bar(decoded, total=len(pairs), unit="pair"), image_facts, colours)
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
    """The views (4, 3, image_size, image_size) uint8 of a pair, and the facts about its images."""
    views = read_views(pair.views, pair.label, mask_class)
    return stack_views(views, (image_size, image_size)), facts.image_facts(views)


def decode_into(
    folder: Path, pair: Pair, image_size: int, mask_class: str | None
) -> tuple[Path, facts.ImageFacts]:
    """`decode` in a worker process; the views are passed in a file of `folder`.

    The pool sends results through a pipe whose both ends the parent keeps open. If a worker were killed while
    sending a large result, the parent would wait forever.
    """
    views, image_facts = decode(pair, image_size, mask_class)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, views)
    return Path(file.name), image_facts


def loaded(
    stream: Iterable[tuple[Path, facts.ImageFacts]],
) -> Iterator[tuple[np.ndarray, facts.ImageFacts]]:
    """Load the views of the results of `decode_into` and remove their files."""
    for path, image_facts in stream:
        views = np.load(path)
        path.unlink()
        yield views, image_facts


def collect_facts(
    stream: Iterable[tuple[np.ndarray, facts.ImageFacts]], collected: list, colours: facts.UnknownColours
) -> Iterator[np.ndarray]:
    """The views of a stream of decoded pairs; appends their facts to `collected`.

    The colours of the maps are only counted, in `colours`, so that memory stays bounded.
    """
    for views, image_facts in stream:
        for unknown in image_facts.unknown:
            colours.add(unknown)
        collected.append(replace(image_facts, unknown=({}, {})))
        yield views


def describe_files(output_dir: Path) -> Iterator[str]:
    """A line with the name and size of each file."""
    for path in input_files(output_dir):
        yield f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    cli.run(main)
