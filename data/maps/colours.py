"""Colours of map files that are not exactly those of a palette, as JPEG and smooth resizing leave them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from data.palette import VOID, Colour, Palette, colour_codes

NEAR = 32  # a colour at most this far from a class's (Euclidean distance in RGB) counts as that class
# A map with a larger fraction of pixels in unclear colours, farther away than NEAR from every class, is a
# photo or has another palette. SECOND's maps as JPEG of quality 30 or halved smoothly have at most 14 %;
# photos (LEVIR, SECOND) 36 to 100 %, with palettes of up to 60 classes at least 28 %.
UNCLEAR_SHARE = 0.25


def codes_of(colours: Iterable[Colour]) -> np.ndarray:
    """Colours as 0xRRGGBB, (n) uint32."""
    return colour_codes(np.array([*colours], dtype=np.uint8).reshape(-1, 3))


@lru_cache(maxsize=8)
def _file_table(palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """The colours of a palette in map files: by 0xRRGGBB the index (2^24) into their colours in prepared
    maps (n, 3) uint8, 0 for other colours. Only the pages in use take up memory."""
    table = np.zeros(1 << 24, dtype=np.uint16)
    known = palette.file_colours
    table[codes_of(known)] = np.arange(1, len(known) + 1)
    return table, np.array([VOID, *known.values()], dtype=np.uint8)


def prepared_colours(colours: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """The colours of a map file (H, W, 3) as prepared ones, and which pixels had a known colour, (H, W)."""
    table, prepared = _file_table(palette)
    index = table[colour_codes(colours)]
    exact = index > 0
    return np.where(exact[..., None], prepared[index], colours), exact


def closest_colours(
    colours: np.ndarray, image: np.ndarray, exact: np.ndarray, palette: Palette
) -> tuple[np.ndarray, np.ndarray]:
    """A prepared image (H, W, 3) whose colours but the `exact` ones are replaced by the closest class's.

    Returns the image and which pixels have the colour of no class, (H, W) bool; these keep their colours.
    """
    unclear = np.zeros_like(exact)
    if exact.all():
        return image, unclear
    others, inverse = np.unique(colour_codes(colours[~exact]), return_inverse=True)
    painted, near = nearest_colours(others, palette.file_colours)
    image = image.copy()
    image[~exact], unclear[~exact] = painted[inverse], ~near[inverse]
    return image, unclear


def nearest_colours(codes: np.ndarray, known: Mapping[Colour, Colour]) -> tuple[np.ndarray, np.ndarray]:
    """The prepared colour of the closest known one for each colour 0xRRGGBB, and whether it is near enough.

    codes (n) -> colours (n, 3) uint8, unchanged where none is near, and (n) bool.
    """
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.int32)
    best, painted = np.full(len(codes), NEAR**2 + 1), colours.astype(np.uint8)
    for colour, prepared in known.items():
        distance = ((colours - colour) ** 2).sum(1)
        painted[distance < best] = prepared
        best = np.minimum(best, distance)
    return painted, best <= NEAR**2
