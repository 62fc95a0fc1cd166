"""A pair's two maps packed into one byte per pixel: two 4-bit indices into a palette of 16 colours.

The first date's map is in the upper four bits, the second date's in the lower four. The palette holds black,
white, and the colours of SECOND's classes in both brightnesses. Maps with other colours are not packed.
"""

from typing import NamedTuple

import numpy as np

from data.palette import SECOND, VOID, WHITE, colour_codes

PALETTE = np.zeros((16, 3), dtype=np.uint8)
_colours = [VOID, WHITE]
for _pair in zip(SECOND.colours, SECOND.brightened, strict=True):
    _colours += _pair
PALETTE[: len(_colours)] = _colours

# By 0xRRGGBB: the index into PALETTE plus one, 0 for other colours. Only the pages in use take up memory.
_INDEX_PLUS_ONE = np.zeros(1 << 24, dtype=np.uint8)
_INDEX_PLUS_ONE[colour_codes(PALETTE[: len(_colours)])] = np.arange(1, len(_colours) + 1)


# Both colours for each value of a byte, padded to eight bytes so that one look-up gets them.
CHANNELS = np.zeros((256, 8), dtype=np.uint8)
CHANNELS[:, :3] = PALETTE[np.arange(256) >> 4]
CHANNELS[:, 3:6] = PALETTE[np.arange(256) & 15]


class PackedViews(NamedTuple):
    """The images of a pair, (2, 3, H, W) uint8, and its maps, packed (H, W) or as colours (2, 3, H, W)."""

    images: np.ndarray
    maps: np.ndarray

    def unpacked(self) -> np.ndarray:
        """The four views, (4, 3, H, W) uint8."""
        maps = unpack_array(self.maps) if self.maps.ndim == 2 else self.maps
        return np.concatenate([self.images, maps])

    def packed(self) -> "PackedViews":
        """The same views with packed maps if all colours are in PALETTE, else unchanged."""
        maps = self.maps if self.maps.ndim == 2 else pack_maps(self.maps)
        return self if maps is None else self._replace(maps=maps)


def pack_maps(maps: np.ndarray) -> np.ndarray | None:
    """Maps (2, 3, H, W) uint8 -> (H, W) uint8; None if a colour is not in PALETTE."""
    indices = _INDEX_PLUS_ONE.take(colour_codes(np.moveaxis(maps, 1, -1)))
    if not indices.all():
        return None
    before, after = indices - 1
    return before << 4 | after


def unpack_array(packed: np.ndarray) -> np.ndarray:
    """Inverse of `pack_maps`: (H, W) uint8 -> (2, 3, H, W) uint8."""
    table = CHANNELS.view(np.int64).ravel()
    pixels = table.take(packed.ravel()).view(np.uint8).reshape(-1, 8)[:, :6]
    return np.ascontiguousarray(pixels.T).reshape(2, 3, *packed.shape)
