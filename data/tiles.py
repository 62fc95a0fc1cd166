"""Cut pairs that are larger than a model's input into square tiles of that size.

Tiles lie next to each other. Where the size of an image is not a multiple of the tile size, the last row and
column are moved inwards to end at the border, so they overlap their neighbours and no pixel is left out. A
pair of exactly one tile, or with a side shorter than a tile, is not cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from data.maps.files import read_views
from data.maps.settings import SECOND_MAPS, MapSettings
from data.sources import Pair, source_of


@dataclass(frozen=True)
class Tile:
    """A tile of a pair. row, column: its top left pixel. void: whether both maps are void in it."""

    row: int
    column: int
    void: bool


def find_tiles(pair: Pair, size: int, maps: MapSettings = SECOND_MAPS) -> list[Tile]:
    """The tiles of a pair, row by row; empty if the pair is not cut. Errors as in `read_views`."""
    views = read_views(pair.views, pair.label, maps)
    height, width = views[0].shape[:2]
    if min(height, width) < size or (height, width) == (size, size):
        return []
    tiles = []
    for row in _starts(height, size):
        for column in _starts(width, size):
            both = cut(views, row, column, size)[2:]
            tiles.append(Tile(row, column, void=not any(view.any() for view in both)))
    return tiles


def _starts(length: int, size: int) -> list[int]:
    """Where the tiles begin along a side of `length` pixels."""
    starts = list(range(0, length - size + 1, size))
    if starts[-1] + size < length:
        starts.append(length - size)
    return starts


def cut(views: Sequence[np.ndarray], row: int, column: int, size: int) -> list[np.ndarray]:
    """The same square of each view (H, W, 3)."""
    return [view[row : row + size, column : column + size] for view in views]


def pairs_of_tiles(pair: Pair, tiles: Sequence[Tile]) -> list[Pair]:
    """A pair for each tile, named NAME_ROW_COLUMN, with the captions and the source of `pair`.

    A tile of a changed pair counts as unchanged if the pair has maps and both are void in the tile. Without
    maps nothing is known about single tiles, and all have the change flag of the pair.
    """
    if not tiles:
        return [pair]
    path = PurePath(pair.filename)
    source = source_of(pair.filename, pair.source)
    pairs = []
    for tile in tiles:
        name = path.with_name(f"{path.stem}_{tile.row}_{tile.column}{path.suffix}")
        changed = pair.changed and not (tile.void and has_maps(pair))
        pairs.append(replace(pair, filename=name.as_posix(), changed=changed, source=source))
    return pairs


def has_maps(pair: Pair) -> bool:
    """Whether a pair has a map of at least one date."""
    return pair.label is not None or any(path is not None for path in pair.views[2:])
