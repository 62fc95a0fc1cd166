"""A pair's maps in one byte a pixel: the places of both colours in a palette of 16.

The map before is in the upper four bits, the map after in the lower four. The palette has black, white, and
the colours of data.palette.CLASSES in both brightnesses.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.palette import CLASSES, VOID, colour_codes
from data.views import SEVERAL

PALETTE = np.zeros((16, 3), dtype=np.uint8)
_colours = dict.fromkeys([VOID, *(colour for row in CLASSES for colour in row[1:])])
PALETTE[: len(_colours)] = list(_colours)

# By 0xRRGGBB: the place in PALETTE plus one, 0 for other colours. Only the pages in use take up memory.
_PLACE_OF = np.zeros(1 << 24, dtype=np.uint8)
_PLACE_OF[colour_codes(PALETTE[: len(_colours)])] = np.arange(1, len(_colours) + 1)


# For each value of a byte the colours before and after, padded to eight bytes for a single look-up.
_CHANNELS = np.zeros((256, 8), dtype=np.uint8)
_CHANNELS[:, :3] = PALETTE[np.arange(256) >> 4]
_CHANNELS[:, 3:6] = PALETTE[np.arange(256) & 15]


class PackedViews(NamedTuple):
    """The images of a pair, (2, 3, H, W) uint8, and its maps, packed (H, W) or as colours (2, 3, H, W)."""

    images: np.ndarray
    maps: np.ndarray

    def unpacked(self) -> np.ndarray:
        """The four views, (4, 3, H, W) uint8."""
        maps = unpack_maps(torch.from_numpy(self.maps)).numpy() if self.maps.ndim == 2 else self.maps
        return np.concatenate([self.images, maps])

    def packed(self) -> "PackedViews":
        """The same with packed maps, if all their colours are in PALETTE."""
        maps = self.maps if self.maps.ndim == 2 else pack_maps(self.maps)
        return self if maps is None else self._replace(maps=maps)


def pack_maps(maps: np.ndarray) -> np.ndarray | None:
    """Maps (2, 3, H, W) uint8 -> (H, W) uint8; None where a colour is not in PALETTE."""
    places = _PLACE_OF.take(colour_codes(np.moveaxis(maps, 1, -1)))
    if not places.all():
        return None
    before, after = places - 1
    return before << 4 | after


def unpack_maps(packed: Tensor) -> Tensor:
    """Inverse of `pack_maps`, on the device of `packed`: (..., H, W) uint8 -> (..., 2, 3, H, W) uint8."""
    height, width = packed.shape[-2:]
    table = torch.from_numpy(_CHANNELS).view(torch.int64).flatten().to(packed.device, non_blocking=True)
    pixels = table.index_select(0, packed.flatten().int()).view(torch.uint8)
    channels = pixels.view(-1, height * width, 8)[..., :6].transpose(1, 2)  # (n, 6, H * W)
    return channels.reshape(*packed.shape[:-2], 2, 3, height, width)


def plain_dates(packed: Tensor) -> Tensor:
    """The colour 0xRRGGBB of each date's map if it has only one, else data.views.SEVERAL.

    packed (B, H, W) uint8 -> (B, 2) int32, on the CPU.
    """
    pixels = packed.flatten(1).numpy()
    first = pixels[:, 0]
    differs = np.bitwise_or.reduce(pixels ^ first[:, None], axis=1)  # (B,), the bits that are not all equal
    colours = colour_codes(PALETTE).astype(np.int32)
    dates = [(differs >> 4, first >> 4), (differs & 15, first & 15)]
    return torch.from_numpy(
        np.stack([np.where(several, SEVERAL, colours[place]) for several, place in dates], axis=1)
    ).int()
