"""Read image files as arrays (H, W, 3) uint8; odd modes, bit depths and damaged files are handled here."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from data.errors import UserError

ImageLike = str | Path | np.ndarray | Image.Image
Pixels = TypeVar("Pixels")

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the errors raised here say what is wrong
Image.init()  # makes all of Pillow's formats known; a build may lack some
FORMATS = [
    name for name in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000") if name in Image.OPEN
]
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
BITS_PER_SAMPLE, SAMPLES_PER_PIXEL, SUBFILE_TYPE = 258, 277, 254  # tags of TIFF
PHOTOMETRIC, EXTRA_SAMPLES = 262, 338  # tags of TIFF
PREMULTIPLIED = 1  # value of EXTRA_SAMPLES
UNREADABLE = (
    "cannot be read as an image, it is damaged, truncated or of an unsupported format: "
    "replace it with a valid PNG or JPEG file"
)
EIGHT_BITS = "an image must have 8 bits per channel, this one has more: convert it to 8 bits"
J2K_SIZE = b"\xff\x4f\xff\x51"  # JPEG 2000: start of the codestream and of its SIZ segment


def read_rgb(source: ImageLike) -> np.ndarray:
    """Read an image as (H, W, 3) uint8: greyscale and palette images become RGB, alpha is dropped.

    source: a file, an array (H, W, 3) uint8 or a PIL image; the EXIF orientation is applied. Raises OSError
    if the file is missing or cannot be opened, UserError if it is damaged, not in FORMATS, too large for
    Pillow, holds several images, or has more than 8 bits per channel.
    """
    if isinstance(source, np.ndarray):
        return checked_array(source)
    return decode(source, lambda image: np.array(ImageOps.exif_transpose(image).convert("RGB")))


def decode(
    source: str | Path | Image.Image, convert: Callable[[Image.Image], Pixels], *, deep_grey: bool = False
) -> Pixels:
    """The pixels of a file or a PIL image as `convert` returns them; errors as in `read_rgb`.

    deep_grey: pass greyscale images of 16 and 32 bits to `convert`.
    """
    if isinstance(source, Image.Image):
        _check_mode(source, "the image", deep_grey)
        return convert(source)
    path = Path(source)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images and odd metadata
            return _decoded(path, convert, deep_grey)
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
        raise UserError(f"{path} {_unknown_format(path)}") from None
    except Exception as error:  # decoders raise many kinds of errors on damaged files
        raise UserError(f"{path} {UNREADABLE}") from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width of an image file, before EXIF rotation; None if its header cannot be read."""
    try:
        with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as file:
            return file.height, file.width
    except Exception:  # `read_rgb` reports the reason
        return None


class _RefusedError(UserError):
    """An undamaged image file of an unsupported kind."""


def _decoded(path: Path, convert: Callable[[Image.Image], Pixels], deep_grey: bool) -> Pixels:
    """Decode an image file.

    The file is opened as a stream: given a name, Pillow maps uncompressed greyscale TIFF files into memory
    and mixes up their rows if EXIF rotates them by 90 degrees.
    """
    with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as file:
        _check_mode(file, path, deep_grey)
        if _bits(file, path) > 8 and file.mode not in DEEP_MODES:
            raise _RefusedError(f"{path}: {EIGHT_BITS}")
        if (count := _image_count(file)) > 1:
            raise _RefusedError(
                f"{path} holds {count} images (frames or pages): save the right one as a separate file"
            )
        file.seek(0)
        _check_alpha(file, path)
        return convert(file)


def _check_alpha(file: Image.Image, path: Path) -> None:
    """Raise UserError for a TIFF file with premultiplied alpha: Pillow divides the colours by it.

    The band may be near infrared with a wrong mark. An opaque band changes nothing.
    """
    if file.format != "TIFF" or PREMULTIPLIED not in file.tag_v2.get(EXTRA_SAMPLES, ()):
        return
    if "A" in file.getbands() and file.getchannel("A").getextrema() != (255, 255):
        raise _RefusedError(
            f"{path} marks its last band as premultiplied alpha, which would change the colours: write the "
            "other bands alone, for example with gdal_translate -b 1 -b 2 -b 3"
        )


def _check_mode(image: Image.Image, name: object, deep_grey: bool) -> None:
    """Raise UserError if converting the image to RGB would lose information."""
    if image.mode in DEEP_MODES:
        if deep_grey:
            return
        raise _RefusedError(f"{name}: {EIGHT_BITS}")
    if image.mode not in EIGHT_BIT_MODES:
        raise _RefusedError(f"{name}: an image must be RGB, this one is {image.mode}: convert it to RGB")


def checked_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(
            "an image as an array must be (H, W, 3) uint8, "
            f"got {tuple(array.shape)} {array.dtype}: convert it to 8-bit RGB"
        )
    return array.copy()


def name_of(source: ImageLike) -> str:
    """The name of an image in messages: its file, or "the image"."""
    return str(source) if isinstance(source, str | Path) else "the image"


def _bits(image: Image.Image, path: Path) -> int:
    """Bits per channel of the file; decoders silently reduce more bits to 8."""
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


def _image_count(image: Image.Image) -> int:
    """The number of images in a file, not counting previews and smaller copies."""
    if image.format == "MPO":  # a camera's JPEG: the image, then previews
        return 1
    count = getattr(image, "n_frames", 1)
    if image.format != "TIFF":
        return count
    pages = 0
    for page in range(count):
        image.seek(page)
        if not image.tag_v2.get(SUBFILE_TYPE, 0) & 0b101:  # a smaller copy, or a transparency mask
            pages += 1
    return pages


def _unknown_format(path: Path) -> str:
    """The message for a file whose format Pillow does not recognise: what it is, and the remedy."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):  # the last two: BigTIFF
        return _unknown_tiff(path)
    if head and head.isascii() and head.replace(b"\n", b" ").replace(b"\r", b" ").decode().isprintable():
        return "is text, not an image (a web page or a Git LFS pointer?): download the image itself"
    return UNREADABLE


def _unknown_tiff(path: Path) -> str:
    """The message for a TIFF file that Pillow cannot decode: its bands and the remedy."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if 43 in head[2:4]:  # BigTIFF has a longer header
                head += file.read(8)
            tags = ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
        bands, bits = tags.get(SAMPLES_PER_PIXEL, 1), max(tags.get(BITS_PER_SAMPLE, (1,)))
        rgb = tags.get(PHOTOMETRIC) == 2
    except Exception:  # any error here means a damaged header
        return "is a damaged TIFF file: replace it"
    reason = "in an arrangement that cannot be read" if rgb else "without a mark of red, green and blue"
    scale = " -scale" if bits > 8 else ""
    return (
        f"is a TIFF file of {bands} bands of {bits} bits {reason}: write its red, green and blue as an 8-bit "
        f"RGB file, for example with gdal_translate -b 1 -b 2 -b 3 -ot Byte{scale} -co PHOTOMETRIC=RGB "
        "(-b 3 -b 2 -b 1 if blue is first)"
    )


def stack_views(views: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Resize and stack views (H, W, 3) uint8 -> (4, 3, *size): RGB bilinear, maps nearest-neighbour.

    Interpolating maps would mix colours into those of other classes.
    """
    methods = [Image.Resampling.BILINEAR] * 2 + [Image.Resampling.NEAREST] * 2
    resized = [_resize(view, size, method) for view, method in zip(views, methods, strict=True)]
    return np.stack(resized).transpose(0, 3, 1, 2)


def resize_map(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (H, W, 3) uint8 to `size` with nearest-neighbour interpolation."""
    return _resize(image, size, Image.Resampling.NEAREST)


def _resize(image: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))
