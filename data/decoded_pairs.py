"""Decode the images of pairs in worker processes, either whole and resized, or cut into tiles."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset_facts import ImageFacts, UnknownColours, image_facts
from data.images import stack_views
from data.maps.files import read_pair
from data.maps.settings import MapSettings
from data.sources import Pair
from data.tiles import Tile, cut

CutPair = tuple[Pair, Sequence[Tile]]  # a pair and its tiles; no tiles: it is resized


def decode(
    pair: Pair, tiles: Sequence[Tile], image_size: int, maps: MapSettings
) -> tuple[np.ndarray, list[ImageFacts]]:
    """The views of a pair's n tiles (n, 4, 3, image_size, image_size) uint8, and the facts about each.

    Without tiles n is 1: the whole images, resized.
    """
    whole = read_pair(pair.views, pair.label, maps)
    parts = [cut(whole.views, tile.row, tile.column, image_size) for tile in tiles] or [whole.views]
    stacked = np.stack([stack_views(views, (image_size, image_size)) for views in parts])
    return stacked, [image_facts(views, maps.palette, whole.maps) for views in parts]


def decode_into(
    folder: Path, pair: CutPair, image_size: int, maps: MapSettings
) -> tuple[Path, list[ImageFacts]]:
    """`decode` in a worker process; the views are passed in a file of `folder`.

    The pool sends results through a pipe whose both ends the parent keeps open. If a worker were killed while
    sending a large result, the parent would wait forever.
    """
    views, facts = decode(*pair, image_size, maps)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, views)
    return Path(file.name), facts


def loaded(stream: Iterable[tuple[Path, list[ImageFacts]]]) -> Iterator[tuple[np.ndarray, ImageFacts]]:
    """Load the results of `decode_into`, one tile after the other, and remove their files."""
    for path, facts in stream:
        views = np.load(path)
        path.unlink()
        yield from zip(views, facts, strict=True)


def collect_facts(
    stream: Iterable[tuple[np.ndarray, ImageFacts]], collected: list[ImageFacts], colours: UnknownColours
) -> Iterator[np.ndarray]:
    """The views of a stream of decoded pairs; appends their facts to `collected`.

    The colours of the maps are only counted, in `colours`, so that memory stays bounded.
    """
    for views, facts in stream:
        for unknown in facts.unknown:
            colours.add(unknown)
        collected.append(replace(facts, unknown=({}, {})))
        yield views
