"""Tiles: every pixel is covered, and names, sources and change flags follow from the pair."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tiles import Tile, cut, find_tiles, pairs_of_tiles
from tests.conftest import save
from tests.data.test_dataset_facts import pair

BUILDING = (128, 0, 0)


def stored(folder: Path, height: int, width: int, **changes):
    """A changed pair of image files without maps."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for date in "AB":
        save(folder / f"{date}.png", image)
    views = (folder / "A.png", folder / "B.png", None, None)
    return replace(pair("00003.png", "train"), views=views, **changes)


@pytest.mark.parametrize(
    ("height", "width", "corners"),
    [
        (8, 8, [(0, 0), (0, 4), (4, 0), (4, 4)]),
        (4, 9, [(0, 0), (0, 4), (0, 5)]),
        (7, 4, [(0, 0), (3, 0)]),
        (4, 4, []),
        (3, 100, []),
    ],
)
def test_tiles_lie_next_to_each_other_and_the_last_ends_at_the_border(tmp_path, height, width, corners):
    tiles = find_tiles(stored(tmp_path, height, width), 4)
    assert [(tile.row, tile.column) for tile in tiles] == corners
    assert all(tile.void for tile in tiles)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_every_pixel_is_in_a_tile_of_the_full_size(tmp_path_factory, height, width, size):
    covered = np.zeros((height, width, 1), dtype=bool)
    folder = tmp_path_factory.mktemp("pair")
    tiles = find_tiles(stored(folder, height, width), size)
    for tile in tiles:
        (part,) = cut([covered], tile.row, tile.column, size)
        assert part.shape == (size, size, 1)
        part[:] = True
    assert covered.all() == (min(height, width) >= size and (height, width) != (size, size))
    assert len({(tile.row, tile.column) for tile in tiles}) == len(tiles)


def test_a_tile_is_void_where_both_maps_are(tmp_path):
    changed = stored(tmp_path, 4, 8)
    colours = np.full((4, 8, 3), 255, dtype=np.uint8)
    save(tmp_path / "before.png", colours)
    colours[0, 7] = BUILDING
    save(tmp_path / "after.png", colours)
    maps = (tmp_path / "before.png", tmp_path / "after.png")
    tiles = find_tiles(replace(changed, views=(*changed.views[:2], *maps)), 4)
    assert tiles == [Tile(0, 0, void=True), Tile(0, 4, void=False)]


def test_a_label_counts_as_a_map(tmp_path):
    label = np.zeros((4, 8), dtype=np.uint8)
    label[2, 2] = 255
    save(tmp_path / "label.png", label)
    levir = stored(tmp_path, 4, 8, label=tmp_path / "label.png")
    first, second = pairs_of_tiles(levir, find_tiles(levir, 4))
    assert (first.changed, second.changed) == (True, False)


TILES = [Tile(0, 0, void=True), Tile(0, 4, void=False)]


def test_names_have_row_and_column_and_the_pair_is_the_source():
    nested = replace(pair("north/a.b.png", "val"), source=None)
    parts = pairs_of_tiles(nested, TILES)
    assert [part.filename for part in parts] == ["north/a.b_0_0.png", "north/a.b_0_4.png"]
    assert {part.source for part in parts} == {"a.b"}
    assert {part.split for part in parts} == {"val"}
    assert all(part.captions == nested.captions for part in parts)


def test_a_known_source_is_kept_and_shared_with_augmented_copies():
    parts = pairs_of_tiles(pair("00003_0_256.png", "train"), TILES)
    copies = pairs_of_tiles(pair("00003_0_256_random_augment_1.png", "train"), TILES)
    assert {part.source for part in [*parts, *copies]} == {"00003"}
    assert all(copy.augmented for copy in copies)
    assert copies[1].filename == "00003_0_256_random_augment_1_0_4.png"


def test_void_tiles_of_changed_pairs_with_maps_count_as_unchanged():
    with_maps, without = pair("1.png", "train", maps=True), pair("1.png", "train")
    unchanged = pair("1.png", "train", changed=False, maps=True)
    assert [part.changed for part in pairs_of_tiles(with_maps, TILES)] == [False, True]
    assert [part.changed for part in pairs_of_tiles(without, TILES)] == [True, True]
    assert [part.changed for part in pairs_of_tiles(unchanged, TILES)] == [False, False]


def test_a_pair_without_tiles_stays_as_it_is():
    whole = pair("1.png", "train")
    assert pairs_of_tiles(whole, []) == [whole]
