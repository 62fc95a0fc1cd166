"""Maps in one byte per pixel are lossless; colours outside the palette are not packed."""

import numpy as np
import torch

from data.packed_maps import PALETTE, PackedViews, pack_maps
from data.palette import SECOND, VOID, WHITE
from data.views import plain_colours, plain_dates, unpack_maps


def random_maps(pairs: int, height: int = 5, width: int = 7) -> np.ndarray:
    """(pairs, 2, 3, height, width) uint8 in all colours of the palette."""
    positions = np.random.default_rng(0).integers(0, 14, (pairs, 2, height, width))
    return np.moveaxis(PALETTE[positions], -1, 2).copy()


def test_the_palette_has_every_colour_of_prepared_maps():
    colours = {tuple(colour) for colour in PALETTE[:14].tolist()}
    assert colours == {VOID, WHITE, *SECOND.colours, *SECOND.brightened}
    assert PALETTE[0].tolist() == list(VOID), "a packed map of zeros is void"


def test_packed_maps_are_unpacked_to_the_same():
    maps = random_maps(3)
    packed = np.stack([pack_maps(pair) for pair in maps])
    assert packed.shape == (3, 5, 7)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_maps(torch.from_numpy(packed)).numpy(), maps)
    np.testing.assert_array_equal(unpack_maps(torch.from_numpy(packed[1])).numpy(), maps[1])


def test_a_colour_outside_the_palette_is_not_packed():
    for date, channel in ((0, 0), (1, 2)):
        maps = random_maps(1)[0]
        maps[date, :, 4, 6] = 0
        maps[date, channel, 4, 6] = 1
        assert pack_maps(maps) is None
        views = PackedViews(np.zeros_like(maps), maps)
        assert views.packed() is views
        np.testing.assert_array_equal(views.unpacked()[2:], maps)


def test_colours_of_plain_dates_are_those_of_the_unpacked_maps():
    maps = random_maps(4)
    maps[0] = 0
    maps[1, 1] = np.array(SECOND.brightened[3]).reshape(3, 1, 1)
    maps[2, 0] = 255
    maps[3, 0] = 0
    maps[3, 0, 2, 4, 6] = 255  # water in one pixel
    packed = torch.from_numpy(np.stack([pack_maps(pair) for pair in maps]))
    assert plain_dates(packed).dtype == torch.int32
    assert torch.equal(plain_dates(packed), plain_colours(torch.from_numpy(maps)))
