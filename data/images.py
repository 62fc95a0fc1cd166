"""Image files as arrays (H, W, 3) uint8: what one file format or another does differently ends here."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from data.errors import UserError
from data.palette import VOID, colour_label, map_colours

ImageLike = str | Path | np.ndarray | Image.Image

Image.init()  # makes all of Pillow's formats known; a build may lack some
FORMATS = [
    name for name in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000") if name in Image.OPEN
]
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, SUBFILE_TYPE = 258, 277, 254  # tags of TIFF
REPLACE = "it is damaged, cut off or of a kind that is not read: replace it by a whole PNG or JPEG file"
EIGHT_BITS = "an image has 8 bits per channel, this one has more: convert it to 8 bits"
J2K_SIZE = b"\xff\x4f\xff\x51"  # JPEG 2000: start of the codestream and of the segment that holds sizes


def read_rgb(source: ImageLike) -> np.ndarray:
    """An image as (H, W, 3) uint8: greyscale becomes three channels, a palette its colours, alpha is dropped.

    source: a file, an array (H, W, 3) uint8 or a PIL image, turned as its EXIF orientation says. OSError
    where the file is absent or cannot be opened; UserError where it is damaged, of another format than
    FORMATS, larger than Pillow reads, holds several images, or has more than 8 bits per channel.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    if isinstance(source, Image.Image):
        _check_mode(source, "the image")
        return np.array(ImageOps.exif_transpose(source).convert("RGB"))
    path = Path(source)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and strange metadata, which change no pixel
            return _decoded(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} not found") from None
    except (PermissionError, _RefusedError):
        raise
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} has more than {2 * Image.MAX_IMAGE_PIXELS // 1_000_000} million pixels, too many for "
            "Pillow: cut it into tiles"
        ) from None
    except UnidentifiedImageError:
        raise UserError(f"{path} {_stranger(path)}") from None
    except Exception as error:  # a damaged file makes the decoder fail in a dozen ways
        raise UserError(f"{path} is no image that can be read in full, {REPLACE}") from error


class _RefusedError(UserError):
    """A whole image file of a kind that must not be read."""


def _decoded(path: Path) -> np.ndarray:
    """The image of a whole file.

    It is opened as a stream: given a name, Pillow maps uncompressed greyscale TIFF files into memory and
    mixes up their rows where EXIF turns them by a quarter.
    """
    with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as file:
        _check_mode(file, path)
        if _bits(file, path) > 8:
            raise _RefusedError(f"{path}: {EIGHT_BITS}")
        if (count := _images(file)) > 1:
            rule = f"holds {count} images (frames or pages): save the right one as its own file"
            raise _RefusedError(f"{path} {rule}")
        file.seek(0)
        return np.array(ImageOps.exif_transpose(file).convert("RGB"))


def _check_mode(image: Image.Image, name: object) -> None:
    """UserError where converting to RGB would lose what the image shows."""
    if image.mode in DEEP_MODES:
        raise _RefusedError(f"{name}: {EIGHT_BITS}")
    if image.mode not in EIGHT_BIT_MODES:
        rule = f"an image has colours in RGB, this one has {image.mode}: convert it to RGB"
        raise _RefusedError(f"{name}: {rule}")


def _checked_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(
            "an image as an array must be (H, W, 3) uint8, "
            f"got {tuple(array.shape)} {array.dtype}: convert it to 8-bit RGB"
        )
    return array.copy()


def name_of(source: ImageLike) -> str:
    """What messages call an image: its file, or what it is."""
    return str(source) if isinstance(source, str | Path) else "the image"


def _bits(image: Image.Image, path: Path) -> int:
    """Bits per channel of the file, where the decoder would cut them to 8 in silence."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if image.format == "PPM":
        arguments = image.tile[0].args
        largest = arguments[1] if isinstance(arguments, tuple) else 255
        return int(largest).bit_length()
    if image.format == "JPEG2000":
        size = path.read_bytes().partition(J2K_SIZE)[2]
        count = int.from_bytes(size[36:38], "big")
        return max((bits & 127) + 1 for bits in size[38 : 38 + 3 * count : 3])
    return 8


def _images(image: Image.Image) -> int:
    """The number of images of the same rank in a file: a preview or a smaller copy of the first is none."""
    if image.format == "MPO":  # a camera's JPEG: previews follow the picture
        return 1
    count = getattr(image, "n_frames", 1)
    if image.format != "TIFF":
        return count
    full = 0
    for page in range(count):
        image.seek(page)
        full += not image.tag_v2.get(SUBFILE_TYPE, 0) & 0b101  # a smaller copy, or a transparency mask
    return full


def _stranger(path: Path) -> str:
    """What a file is that Pillow does not know, and what to do about it."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith((b"II*\0", b"MM\0*")):
        return f"{_tiff_bands(path)}: write its red, green and blue as an 8-bit RGB file (PNG or TIFF)"
    if head and head.isascii() and head.replace(b"\n", b" ").replace(b"\r", b" ").decode().isprintable():
        return "is text, no image (a web page, or what Git LFS has for the file): get the image itself"
    return f"is no image that can be read in full, {REPLACE}"


def _tiff_bands(path: Path) -> str:
    """ "is a TIFF file of 4 bands, ..." as far as its header can be read."""
    try:
        with path.open("rb") as file:
            tags = ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
        bands = tags.get(SAMPLES_PER_PIXEL, 1)
        return f"is a TIFF file of {bands} bands of {max(tags.get(BITS_PER_SAMPLE, (1,)))} bits, not of RGB"
    except Exception:  # the header is damaged in one of a dozen ways
        return "is a damaged TIFF file"


def read_map(source: ImageLike, mask_class: str | None = None) -> np.ndarray:
    """A semantic map as its colours (H, W, 3) uint8, void black, a mask as `mask_class` (`map_colours`).

    Errors as in `read_rgb`; UserError for what is no map in the palette's colours, as far as can be told.
    """
    image = read_rgb(source)
    try:
        return map_colours(image, mask_class)
    except UserError as error:
        raise UserError(f"{name_of(source)} {error}") from None


def read_label(path: Path, mask_class: str | None = None) -> np.ndarray:
    """LEVIR-MCI's label as a map (H, W, 3) uint8. UserError where it holds anything but 0, 128 and 255.

    A mask of 0 and 255, or of 0 and 1, is painted as `mask_class` where that is given.
    """
    label = read_rgb(path)
    if (label != label[..., :1]).any():
        raise UserError(f"{path}: a label is greyscale, this one has colours: use label/, not label_rgb/")
    if mask_class is not None and np.isin(label, (0, 1, 255)).all():
        return read_map(path, mask_class)
    try:
        return colour_label(label[..., 0])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_views(
    paths: Sequence[ImageLike | None], label: Path | None = None, mask_class: str | None = None
) -> list[np.ndarray]:
    """The four views of a pair in the order of VIEWS, each (H, W, 3) uint8 as large as in its file.

    A map whose path is None is void; `label`, if given, is the second date's map. mask_class: the class that
    a mask at the second date shows. UserError if sizes differ, or for a mask at the first date.
    """
    views = [read_rgb(path) for path in paths[:2]]
    maps = [np.full_like(views[0], VOID) for _ in range(2)]
    if paths[2] is not None:
        maps[0] = _first_map(paths[2], mask_class)
    if label or paths[3] is not None:
        maps[1] = read_label(label, mask_class) if label else read_map(paths[3], mask_class)
    views += maps
    sizes = [view.shape[:2] for view in views]
    if len(set(sizes)) > 1:
        different = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise UserError(
            f"{name_of(paths[0])}: the images of a pair have one size (rows x columns), got {different}: "
            "crop or resize them to the same area"
        )
    return views


def _first_map(source: ImageLike, mask_class: str | None) -> np.ndarray:
    """The map of the first date; where masks are expected, they are the second date's."""
    try:
        return read_map(source)
    except UserError as error:
        if mask_class is None or "--mask_class" not in str(error):
            raise
        raise UserError(
            f"{name_of(source)} is a mask, which shows the second date alone: leave the first date's maps out"
        ) from None


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
