"""Decode map files of every mode: colours, transparency, and the indices of palette images."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from data.errors import UserError
from data.images import DEEP_MODES, EIGHT_BITS, ImageLike, checked_array, decode, name_of

LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")  # formats that may change colours


class MapPixels(NamedTuple):
    """A decoded map file.

    colours (H, W, 3) uint8; grey (H, W), of any depth, of greyscale files; indices (H, W) of palette files;
    alpha (H, W), 0 where transparent.
    """

    colours: np.ndarray
    kind: str
    lossy: bool = False
    grey: np.ndarray | None = None
    indices: np.ndarray | None = None
    alpha: np.ndarray | None = None


def _pixels(image: Image.Image) -> MapPixels:
    """The pixels of an opened map file."""
    lossy, kind = image.format in LOSSY, image.format if image.format in LOSSY else image.mode
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP_MODES:
        grey = np.asarray(image)
        colours = np.stack([np.clip(grey, 0, 255).astype(np.uint8)] * 3, axis=-1)
        return MapPixels(colours, "16-bit greyscale", lossy, grey=grey)
    indices = np.asarray(image) if image.mode == "P" else None
    kind = "palette image" if indices is not None else kind
    if not image.has_transparency_data:
        return MapPixels(np.array(image.convert("RGB")), kind, lossy, indices=indices)
    rgba = np.array(image.convert("RGBA"))
    kind = kind if image.mode == "RGBA" else f"{kind} with transparency"
    return MapPixels(rgba[..., :3].copy(), kind, lossy, None, indices, rgba[..., 3])


def read_pixels(source: ImageLike) -> MapPixels:
    """Decode a map; errors as in `data.images.read_rgb`, and UserError for deep pixels but class indices."""
    if isinstance(source, np.ndarray):
        return MapPixels(checked_array(source), "RGB")
    pixels = decode(source, _pixels, deep_grey=True)
    grey = pixels.grey
    if grey is not None and (grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 255):
        raise UserError(
            f"{name_of(source)}: {EIGHT_BITS}; a 16-bit map must hold class indices, it has {grey.max()}"
        )
    return pixels
