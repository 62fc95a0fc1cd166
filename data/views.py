"""Views on their way to the model: which have a single colour, and packed maps as colours."""

import numpy as np
import torch
from torch import Tensor

from data.packed_maps import CHANNELS, PALETTE
from data.palette import colour_codes

SEVERAL = -1  # stands for the colour of a view that has more than one
SPARSE = slice(None, None, 16)  # pixels to compare first: most images differ in them


def plain_colours(views: Tensor) -> Tensor:
    """The colour 0xRRGGBB of each view that has a single colour, as void maps have; SEVERAL for the others.

    views (..., 3, H, W) uint8 -> (...) int32, on the CPU.
    """
    images = views.flatten(0, -4)
    first = images[..., :1, :1]
    maybe = (images[..., SPARSE, SPARSE] == first[..., :1, :1]).flatten(1).all(1)
    places = maybe.nonzero()[:, 0]
    plain = (images[places] == first[places]).flatten(1).all(1)
    red, green, blue = first[places[plain], :, 0, 0].int().unbind(1)
    colours = torch.full((len(images),), SEVERAL, dtype=torch.int32)
    colours[places[plain].cpu()] = (red << 16 | green << 8 | blue).cpu()
    return colours.view(views.shape[:-3])


def unpack_maps(packed: Tensor) -> Tensor:
    """Packed maps as colours, on their device: (..., H, W) uint8 -> (..., 2, 3, H, W) uint8."""
    height, width = packed.shape[-2:]
    table = torch.from_numpy(CHANNELS).view(torch.int64).flatten().to(packed.device, non_blocking=True)
    pixels = table.index_select(0, packed.flatten().int()).view(torch.uint8)
    channels = pixels.view(-1, height * width, 8)[..., :6].transpose(1, 2)  # (n, 6, H * W)
    return channels.reshape(*packed.shape[:-2], 2, 3, height, width)


def plain_dates(packed: Tensor) -> Tensor:
    """The colour 0xRRGGBB of each date's map if it has only one, else SEVERAL.

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
