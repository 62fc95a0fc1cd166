"""Which views have a single colour."""

import torch
from torch import Tensor

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
