"""Convert a dataset folder to the input files of training and evaluation, and print dataset statistics.

    python tools/create_input_files.py --min_word_freq 5
    python tools/create_input_files.py --dataset_dir Levir-MCI-dataset --output_dir createdFileLevirMCI
    python tools/create_input_files.py --min_word_freq 10 --format released     for the authors' code
    python tools/create_input_files.py --dataset_dir my_dataset --output_dir my_input --tile

Reads SECOND-CC, LEVIR-MCI, CSV tables and other layouts (docs/data.md). Writes one HDF5 file per split and a
vocabulary (data/hdf5.py), or the authors' set of files (data/authors_files.py). Nothing is written if
anything fails. Statistics go to standard output, warnings to standard error; with --strict, warnings are
errors.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np

from data import dataset_facts as facts
from data import hdf5
from data.authors_files import read_word_map
from data.decoded_pairs import collect_facts, decode_into, loaded
from data.encoded_captions import arrange, encode, repeated
from data.errors import UserError
from data.input_folder import FORMATS, describe_files, refuse_existing, staging_folder
from data.json_file import read_json
from data.maps.facts import describe_maps, describe_palette
from data.maps.grey import settings_of
from data.maps.palette_file import find_palette
from data.maps.settings import MapSettings
from data.no_change import no_change_of
from data.palette import SECOND
from data.sources import SPLITS, Pair, read_dataset, with_val_share
from data.tiles import Tile, find_tiles, pairs_of_tiles
from data.unknown_words import check_vocabulary
from data.vocabulary import Vocabulary
from data.workers import ignore_interrupts, in_order
from tools.engine.folder_lock import locked
from tools.engine.interrupts import Interruption, deferred_interrupts, raise_between
from tools.engine.preparation_options import parse
from tools.engine.preparation_report import Prepared, describe, find_warnings, report
from tools.engine.progress_bar import progress_bar

RECORDED = (
    "dataset_dir",
    "min_word_freq",
    "vocabulary_splits",
    "captions_per_image",
    "max_length",
    "image_size",
    "vocabulary",
    "tile",
    "metres_per_pixel",
    "val_share",
)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv, __doc__)
    output_dir = Path(args.output_dir)
    with locked(output_dir, "wait until it has ended, or give another --output_dir"):
        prepare(args, output_dir)


def prepare(args: argparse.Namespace, output_dir: Path) -> None:
    """Write the input files and print statistics."""
    refuse_existing(output_dir, args.force)
    dataset = read_dataset(args.dataset_dir)
    all_pairs = with_val_share(dataset.pairs, args.val_share) if args.val_share else dataset.pairs
    palette, palette_file = find_palette(args.dataset_dir)
    vocabulary = make_vocabulary(all_pairs, args)
    pairs, left_out = arrange(all_pairs, args.max_length, leave_out=args.format == "released")
    mask_class = args.mask_class or (dataset.mask_class if palette == SECOND else None)
    settings = MapSettings(palette, mask_class, mask_unchanged=args.mask_unchanged, palette_file=palette_file)
    maps = settings_of(map_paths(pairs), settings)
    captions = [encode(pair, vocabulary, args.captions_per_image, args.max_length) for pair in pairs]
    with (
        staging_folder(output_dir) as folder,
        deferred_interrupts() as interruption,
        ProcessPoolExecutor(min(args.workers, len(pairs)), initializer=ignore_interrupts) as pool,
    ):
        tiles = cut_into_tiles(pool, pairs, args, maps, interruption)
        cut_pairs = [pairs_of_tiles(pair, parts) for pair, parts in zip(pairs, tiles, strict=True)]
        check_names(list(chain.from_iterable(cut_pairs)))
        reader = partial(decode_into, folder, image_size=args.image_size, maps=maps)
        jobs = list(zip(pairs, tiles, strict=True))
        decoded = loaded(in_order(pool, reader, jobs, ahead=4 * args.workers))
        write_split = partial(
            FORMATS[args.format].write_split,
            folder,
            vocabulary=vocabulary,
            settings={name: getattr(args, name) for name in RECORDED},
            no_change=no_change_of(pairs),
            maps=maps,
        )
        image_facts, colours = write_splits(
            write_split,
            list(chain.from_iterable(cut_pairs)),
            repeated(captions, cut_pairs),
            raise_between(interruption, decoded),
            args.image_size,
        )
        about_maps = [*describe_palette(maps), *describe_maps(image_facts)]
        data = Prepared(dataset, pairs, left_out, cut_pairs, vocabulary, maps, image_facts, colours)
        hdf5.record_resolution(folder, input_resolution(args, image_facts))
        warnings = list(find_warnings(data, args))
        if args.strict and warnings:
            report([*describe(data, args), *about_maps], warnings)
            raise UserError(
                f"--strict refuses data with warnings, got {len(warnings)}: follow them or leave out --strict"
            )
    report([*describe(data, args), *about_maps, *describe_files(output_dir)], warnings)


def map_paths(pairs: Iterable[Pair]) -> Iterator[Path]:
    """The files of all maps."""
    for pair in pairs:
        yield from (path for path in (*pair.views[2:], pair.label) if path is not None)


def make_vocabulary(pairs: Sequence[Pair], args: argparse.Namespace) -> Vocabulary:
    """The vocabulary of --vocabulary, or that of the captions. UserError if it knows too few words."""
    if args.vocabulary:
        return given_vocabulary(Path(args.vocabulary), pairs)
    counted = (pair.captions for pair in pairs if args.vocabulary_splits in ("all", pair.split))
    vocabulary = Vocabulary.build(chain.from_iterable(counted), args.min_word_freq)
    check_vocabulary(pairs, vocabulary, args.vocabulary_splits, args.min_word_freq)
    return vocabulary


def given_vocabulary(path: Path, pairs: Sequence[Pair]) -> Vocabulary:
    """The vocabulary of a checkpoint, a vocabulary.json or an authors' word map.

    UserError if a file of another kind is given or no word of the captions is known.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--vocabulary {path} is not a file: give a best.pt or a vocabulary.json")
    if path.suffix == ".json":
        content = read_json(path, "give a best.pt or a vocabulary.json")
        vocabulary = read_word_map(path) if isinstance(content, dict) else Vocabulary.load(path)
    else:
        from tools.engine.checkpoint import load_checkpoint  # importing torch takes seconds

        words = load_checkpoint(path).get("vocabulary")
        if not words:
            raise UserError(
                f"--vocabulary {path} must hold words, this checkpoint is of a change detector: give the "
                "best.pt of a captioning model"
            )
        vocabulary = Vocabulary(words)
    if not any(word in vocabulary for pair in pairs for words in pair.captions for word in words):
        raise UserError(f"--vocabulary {path} has no word of these captions: leave it out")
    return vocabulary


def cut_into_tiles(
    pool: ProcessPoolExecutor,
    pairs: Sequence[Pair],
    args: argparse.Namespace,
    maps: MapSettings,
    interruption: Interruption,
) -> list[Sequence[Tile]]:
    """The tiles of each pair; empty for pairs that are not cut, and without --tile."""
    if not args.tile:
        return [()] * len(pairs)
    finder = partial(find_tiles, size=args.image_size, maps=maps)
    found = raise_between(interruption, in_order(pool, finder, pairs, ahead=4 * args.workers))
    return list(progress_bar(found, "tiles", total=len(pairs), unit="pair"))


def check_names(pairs: Sequence[Pair]) -> None:
    """Raise UserError if a tile has the name of another pair."""
    counts = Counter((pair.split, pair.filename) for pair in pairs)
    for (split, filename), count in counts.items():
        if count > 1:
            raise UserError(
                f"--tile would give {count} pairs of {split} the name {filename}: rename the pair"
            )


def input_resolution(args: argparse.Namespace, image_facts: Sequence[facts.ImageFacts]) -> float | None:
    """Metres per pixel of the written images: that of the files times the median scale of the resizing."""
    if args.metres_per_pixel is None:
        return None
    sides = np.sqrt(np.prod([fact.size for fact in image_facts], axis=1))
    return args.metres_per_pixel * float(np.median(sides)) / args.image_size


def write_splits(
    write_split: Callable,
    pairs: Sequence[Pair],
    captions: Sequence[tuple],
    decoded: Iterable[tuple],
    image_size: int,
) -> tuple[list[facts.ImageFacts], facts.UnknownColours]:
    """Write each split that has pairs with `write_split`; return the facts about the images.

    `captions` holds the result of `encode` for each pair, `decoded` yields its views and facts.
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


if __name__ == "__main__":
    cli.run(main)
