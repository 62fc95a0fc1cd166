"""Views as tensors: detect single-colour views, and unpack maps into colours."""

import numpy as np
import torch
from torch import Tensor

from data.packed_maps import CHANNELS, PALETTE
from data.palette import colour_codes

SEVERAL = -1  # in place of a colour: the view has more than one
SPARSE = slice(None, None, 16)  # the pixels that are compared first: most images differ there


def plain_colours(views: Tensor) -> Tensor:
    """The colour 0xRRGGBB of each view with a single colour, such as a void map; SEVERAL for the others.

    views (..., 3, H, W) uint8 -> (...) int32, on the CPU.
    """
    images = views.flatten(0, -4)
    first = images[..., :1, :1]
    maybe = (images[..., SPARSE, SPARSE] == first[..., :1, :1]).flatten(1).all(1)
    candidates = maybe.nonzero()[:, 0]
    plain = candidates[(images[candidates] == first[candidates]).flatten(1).all(1)]
    red, green, blue = first[plain, :, 0, 0].int().unbind(1)
    colours = torch.full((len(images),), SEVERAL, dtype=torch.int32)
    colours[plain.cpu()] = (red << 16 | green << 8 | blue).cpu()
    return colours.view(views.shape[:-3])


def unpack_maps(packed: Tensor) -> Tensor:
    """Unpack maps into colours on their device: (..., H, W) uint8 -> (..., 2, 3, H, W) uint8."""
    height, width = packed.shape[-2:]
    table = torch.from_numpy(CHANNELS).view(torch.int64).flatten().to(packed.device, non_blocking=True)
    pixels = table.index_select(0, packed.flatten().int()).view(torch.uint8)
    channels = pixels.view(-1, height * width, 8)[..., :6].transpose(1, 2)  # (n, 6, H * W)
    return channels.reshape(*packed.shape[:-2], 2, 3, height, width)


def plain_dates(packed: Tensor) -> Tensor:
    """The colour 0xRRGGBB of each date's map if it has a single colour, else SEVERAL.

    packed (B, H, W) uint8 -> (B, 2) int32, on the CPU.
    """
    pixels = packed.flatten(1).numpy()
    first = pixels[:, 0]
    differs = np.bitwise_or.reduce(pixels ^ first[:, None], axis=1)  # (B,), the bits that differ anywhere
    colours = colour_codes(PALETTE).astype(np.int32)
    before = np.where(differs >> 4, SEVERAL, colours[first >> 4])
    after = np.where(differs & 15, SEVERAL, colours[first & 15])
    return torch.from_numpy(np.stack([before, after], axis=1)).int()
