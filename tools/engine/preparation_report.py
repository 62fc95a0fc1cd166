"""What tools/create_input_files.py prints: statistics of the written data, and warnings."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from data import dataset_facts as facts
from data import dataset_warnings as warn
from data.data_warning import DataWarning, warning_lines
from data.maps.facts import warn_of_map_files
from data.maps.settings import MapSettings
from data.sources import Dataset, Pair
from data.unknown_words import warn_of_words
from data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prepared:
    """What is known after preparation.

    pairs: in the order of the splits. left_out: pairs that were not written. cut_pairs: the pairs written for
    each of `pairs`: its tiles, or the pair itself. maps: how they were read. image_facts: of each written
    pair. colours: unknown colours of the maps.
    """

    dataset: Dataset
    pairs: list[Pair]
    left_out: list[Pair]
    cut_pairs: list[list[Pair]]
    vocabulary: Vocabulary
    maps: MapSettings
    image_facts: list[facts.ImageFacts]
    colours: facts.UnknownColours

    @property
    def written(self) -> list[Pair]:
        """The written pairs."""
        return list(chain.from_iterable(self.cut_pairs))


def describe(data: Prepared, args: argparse.Namespace) -> Iterator[str]:
    """Lines of statistics."""
    origin = args.vocabulary or ("all splits" if args.vocabulary_splits == "all" else "train")
    yield f"layout: {data.dataset.layout}"
    yield from facts.describe_pairs(data.written)
    yield from facts.describe_no_change(data.pairs)
    yield from facts.describe_words(data.pairs, data.vocabulary, origin)
    yield from facts.describe_images(data.written, data.image_facts)
    yield from warn.remark_on_amounts(data.pairs)
    yield from warn.remark_on_sizes(data.image_facts, args.image_size)


def find_warnings(data: Prepared, args: argparse.Namespace) -> Iterator[DataWarning]:
    """What is probably wrong with the data, the most serious first."""
    written = data.written
    yield from data.dataset.warnings
    yield from warn_of_words(data.pairs, data.vocabulary, args.vocabulary_splits, args.vocabulary)
    yield from warn.warn_of_splits(data.pairs)
    yield from warn.warn_of_sizes(data.image_facts, args.image_size)
    yield from warn.warn_of_tiles(data.pairs, data.cut_pairs)
    yield from warn.warn_of_flags(data.pairs)
    yield from warn_of_map_files(written, data.image_facts, data.colours, data.maps)
    yield from warn.warn_of_maps(written, data.image_facts, data.colours, data.maps)
    yield from warn.warn_of_images(written, data.image_facts)
    yield from warn.warn_of_captions(data.pairs, data.left_out, args.captions_per_image, args.max_length)


def report(lines: Iterable[str], warnings: Sequence[DataWarning]) -> None:
    """Print statistics to standard output, then warnings to standard error."""
    for line in lines:
        print(line)
    sys.stdout.flush()  # warnings come last where both streams go to one file
    for line in warning_lines(warnings):
        print(line, file=sys.stderr)
