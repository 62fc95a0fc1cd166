"""Image files as arrays (H, W, 3) uint8: what is odd about a file ends here."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

from data.palette import VOID, colour_label, void_to_black

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_rgb(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8: greyscale becomes three channels, a palette its colours, alpha is dropped.

    FileNotFoundError where it is absent, ValueError where it is damaged or has more than 8 bits per channel.
    """
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:
            mode = file.metadata(index=0)["mode"]
            image = file.read(index=0, mode="RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} not found") from None
    except Exception as error:  # a damaged file makes the decoder fail in a dozen ways
        raise ValueError(
            f"{path} is no image that can be read in full, it is damaged, cut off or no picture: "
            "replace it by a whole PNG or JPEG file"
        ) from error
    if mode not in EIGHT_BIT_MODES or _is_16_bit_png(path):
        raise ValueError(f"{path}: an image has 8 bits per channel, this one has more: convert it to 8 bits")
    return image


def read_map(path: Path) -> np.ndarray:
    """A semantic map as its colours (H, W, 3) uint8, white turned into black; errors as in `read_rgb`."""
    return void_to_black(read_rgb(path))


def read_label(path: Path) -> np.ndarray:
    """LEVIR-MCI's label as a map (H, W, 3) uint8. ValueError where it holds anything but 0, 128 and 255."""
    label = read_rgb(path)
    if (label != label[..., :1]).any():
        raise ValueError(f"{path}: a label is greyscale, this one has colours: use label/, not label_rgb/")
    try:
        return colour_label(label[..., 0])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_views(paths: tuple[Path | None, ...], label: Path | None = None) -> list[np.ndarray]:
    """The four views of a pair in the order of VIEWS, each (H, W, 3) uint8 as large as in its file.

    A map whose path is None is void; `label`, if given, is the second date's map. ValueError if sizes differ.
    """
    views = [read_rgb(path) for path in paths[:2]]
    maps = [read_map(path) if path else np.full_like(views[0], VOID) for path in paths[2:]]
    if label is not None:
        maps[1] = read_label(label)
    views += maps
    sizes = [view.shape[:2] for view in views]
    if len(set(sizes)) > 1:
        found = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise ValueError(f"{paths[0]}: the images of a pair have one size (rows x columns), got {found}")
    return views


def stack_views(views: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Views (H, W, 3) uint8 as one array (4, 3, *size): RGB resized bilinearly, maps by the nearest pixel.

    A map keeps its colours that way: a mixture of two classes' colours would be a third class or none.
    """
    methods = [Image.Resampling.BILINEAR] * 2 + [Image.Resampling.NEAREST] * 2
    resized = [_resize(view, size, method) for view, method in zip(views, methods, strict=True)]
    return np.stack(resized).transpose(0, 3, 1, 2)


def resize_map(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (H, W, 3) uint8 as large as `size`, by the nearest pixel."""
    return _resize(image, size, Image.Resampling.NEAREST)


def _resize(image: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))


def _is_16_bit_png(path: Path) -> bool:
    """Read from the file's header, because the decoder silently cuts 16-bit colour to 8."""
    with Path(path).open("rb") as file:
        header = file.read(25)
    return header.startswith(b"\x89PNG") and header[24] == 16
