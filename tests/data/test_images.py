"""Image files of every kind as (H, W, 3) uint8, and views of a pair at one size."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.images import read_rgb, size_of, stack_views

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def stored(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_with_16_bit_colours(path: Path) -> Path:
    """Pillow cannot write one, so its chunks are put together here."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + row.tobytes() for row in (COLOURS.astype(">u2") * 257))
    header = struct.pack(">IIBBBBB", 7, 9, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def test_colours_are_kept(tmp_path):
    assert (read_rgb(stored(tmp_path / "a.png", Image.fromarray(COLOURS))) == COLOURS).all()


def test_greyscale_becomes_three_channels(tmp_path):
    image = read_rgb(stored(tmp_path / "a.png", Image.fromarray(GREY)))
    assert (image == GREY[..., None]).all()
    assert image.shape == (9, 7, 3)


@pytest.mark.parametrize("alpha", [0, 100])
def test_alpha_is_dropped(tmp_path, alpha):
    image = Image.fromarray(COLOURS)
    image.putalpha(alpha)
    assert (read_rgb(stored(tmp_path / "a.png", image)) == COLOURS).all()


def test_16_bit_greyscale_is_refused(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(GREY.astype(np.uint16) * 256))
    with pytest.raises(ValueError, match=r"a\.png: an image must have 8 bits per channel"):
        read_rgb(path)


def test_16_bit_colour_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: an image must have 8 bits per channel"):
        read_rgb(png_with_16_bit_colours(tmp_path / "a.png"))


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, ending, orientation):
    ramp = np.linspace(0, 255, 32 * 16, dtype=np.uint8).reshape(32, 16)
    turned = {1: ramp, 2: ramp[:, ::-1], 3: ramp[::-1, ::-1], 4: ramp[::-1]}
    turned |= {5: ramp.T, 6: ramp[::-1].T, 7: ramp[::-1, ::-1].T, 8: ramp[:, ::-1].T}
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = stored(tmp_path / f"a.{ending}", Image.fromarray(ramp), exif=exif)
    assert read_rgb(path).shape == (*turned[orientation].shape, 3)
    assert np.abs(read_rgb(path)[..., 0] - turned[orientation].astype(int)).max() < 20, "but for JPEG's loss"


def netpbm(kind: bytes, largest: int) -> bytes:
    """A binary PGM (P5) or PPM (P6) file of 7 x 9 samples up to `largest`."""
    samples = np.arange(63 * (3 if kind == b"P6" else 1)) % (largest + 1)
    header = b"%s\n# a remark\n7 9\n%d\n" % (kind, largest)
    return header + samples.astype(">u2" if largest > 255 else "u1").tobytes()


def tiff(bands: int, bits: int, photometric: int) -> bytes:
    """An uncompressed TIFF of 7 x 9 pixels as GDAL writes it; Pillow cannot write these kinds."""
    samples = np.resize(COLOURS, (9, 7, bands)).astype("<u2" if bits == 16 else "u1").tobytes()
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 7), (257, 9), (258, start), (259, 1), (262, photometric)]
    tags += [(273, start + 2 * bands), (277, bands), (278, 9), (279, len(samples))]
    entries = b"".join(struct.pack("<HHII", tag, 4, bands if tag == 258 else 1, value) for tag, value in tags)
    entries = entries.replace(struct.pack("<HH", 258, 4), struct.pack("<HH", 258, 3))
    header = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return header + entries + bytes(4) + struct.pack(f"<{bands}H", *[bits] * bands) + samples


def big_tiff(bands: int) -> bytes:
    """The header of a BigTIFF file of 8-bit bands without a colour interpretation, followed by no pixels."""
    tags = [(256, 7), (257, 9), (258, 8), (259, 1), (262, 1), (277, bands)]
    entries = b"".join(struct.pack("<HHQQ", tag, 3, 1, value) for tag, value in tags)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + entries + bytes(8)


def premultiplied(path: Path, alpha: int) -> Path:
    """A TIFF file of red, green, blue and a fourth band that is marked as premultiplied alpha."""
    image = Image.fromarray(COLOURS)
    image.putalpha(alpha)
    content = stored(path, image).read_bytes()
    mark = struct.pack("<HHI", 338, 3, 1)
    assert content.count(mark) == 1
    path.write_bytes(content.replace(mark + b"\2", mark + b"\1"))
    return path


def jpeg_2000_of_16_bits() -> bytes:
    """A JPEG 2000 file of 8 bits whose header says 16."""
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, format="JPEG2000", no_jp2=True)
    content = bytearray(file.getvalue())
    for channel in range(3):
        content[42 + 3 * channel] = 15
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        netpbm(b"P6", 65535),
        netpbm(b"P6", 1023),
        netpbm(b"P5", 65535),
        netpbm(b"P5", 1023),
        b"P3 2 1 1023 0 1 2 1023 5 6",
        tiff(3, 16, photometric=2),
        jpeg_2000_of_16_bits(),
    ],
    ids=["PPM", "10-bit PPM", "PGM", "10-bit PGM", "plain PPM", "TIFF", "JPEG 2000"],
)
def test_more_than_8_bits_are_refused_in_every_format(tmp_path, content):
    (tmp_path / "a.img").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.img: an image must have 8 bits per channel, this one has more"):
        read_rgb(tmp_path / "a.img")


def test_8_bit_files_of_the_same_formats_are_read(tmp_path):
    path = tmp_path / "a.img"
    for content in (netpbm(b"P6", 255), tiff(3, 8, photometric=2)):
        path.write_bytes(content)
        assert read_rgb(path).shape == (9, 7, 3)
    assert (read_rgb(stored(tmp_path / "a.jp2", Image.fromarray(COLOURS))) == COLOURS).all()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (tiff(4, 8, photometric=1), "is a TIFF file of 4 bands of 8 bits without a mark of red, green and b"),
        (tiff(13, 16, photometric=1), "is a TIFF file of 13 bands of 16 bits .* -ot Byte -scale -co PHOTO"),
        (tiff(8, 8, photometric=2), "is a TIFF file of 8 bands of 8 bits in an arrangement that cannot be"),
        (
            big_tiff(4),
            "is a TIFF file of 4 bands of 8 bits without a mark .*: write its red, .* gdal_translate",
        ),
        (b"II+\0\1", "is a damaged TIFF file: replace it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "is text, not an image"),
        (b"<!DOCTYPE html>\r\n<html>", "is text, not an image"),
    ],
    ids=["bands", "bands of 16 bits", "many bands", "BigTIFF", "damaged BigTIFF", "Git LFS", "HTML"],
)
def test_unsupported_file_is_not_called_damaged(tmp_path, content, rule):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.png {rule}"):
        read_rgb(tmp_path / "a.png")


def test_first_three_bands_of_a_tiff_marked_as_rgb_are_read(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(4, 8, photometric=2))
    assert (read_rgb(tmp_path / "a.tif") == np.resize(COLOURS, (9, 7, 4))[..., :3]).all()


def test_premultiplied_alpha_that_would_change_the_colours_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.tif marks its last band as premultiplied alpha.*gdal_translate"
    ):
        read_rgb(premultiplied(tmp_path / "a.tif", alpha=100))
    assert (read_rgb(premultiplied(tmp_path / "b.tif", alpha=255)) == COLOURS).all()


def test_size_of_a_file_is_read_from_its_header(tmp_path):
    assert size_of(stored(tmp_path / "a.png", Image.fromarray(COLOURS))) == (9, 7)
    (tmp_path / "b.png").write_text("text")
    assert size_of(tmp_path / "b.png") is None


def test_a_folder_is_not_called_damaged(tmp_path):
    with pytest.raises(ValueError, match="is a folder: name an image file"):
        read_rgb(tmp_path)


def test_lab_image_is_refused_for_its_colour_space(tmp_path):
    colours = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(COLOURS), *colours, outputMode="LAB")
    with pytest.raises(ValueError, match="an image must be RGB, this one is LAB: convert it to RGB"):
        read_rgb(stored(tmp_path / "a.tif", image))


def test_image_above_the_size_limit_is_refused(tmp_path):
    path = stored(tmp_path / "a.png", Image.new("1", (15_000, 13_000)))
    with pytest.raises(ValueError, match=r"a\.png has more than 178 million pixels, .*: cut it into tiles"):
        read_rgb(path)


@pytest.mark.parametrize("ending", ["tif", "gif", "png", "webp"])
def test_a_file_of_several_images_is_refused(tmp_path, ending):
    images = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1])]
    path = stored(tmp_path / f"a.{ending}", images[0], save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match=r"holds 2 images \(frames or pages\): save the right one"):
        read_rgb(path)


def test_smaller_copy_in_a_tiff_file_is_ignored(tmp_path):
    image = Image.fromarray(COLOURS)
    small = image.resize((3, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    path = stored(tmp_path / "a.tif", image, save_all=True, append_images=[small])
    with Image.open(path) as file:
        assert file.n_frames == 2
    assert (read_rgb(path) == COLOURS).all()


def test_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.png not found"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_truncated_image_is_refused(tmp_path, ending):
    path = stored(tmp_path / f"a.{ending}", Image.fromarray(COLOURS))
    whole = path.read_bytes()
    for length in (0, 5, 20, len(whole) // 2, len(whole) * 3 // 4):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=rf"a\.{ending} cannot be read .* damaged, .*: replace it"
        ) as error:
            read_rgb(path)
        assert "pillow" not in str(error.value)


@pytest.mark.parametrize("size", [(5, 4), (9, 7), (20, 31)])
def test_resizing_mixes_image_colours_but_never_map_colours(tmp_path, size):
    semantic = np.where(GREY[..., None] < 128, np.uint8([0, 128, 0]), np.uint8([128, 0, 0]))
    stacked = stack_views([COLOURS, COLOURS, semantic, semantic], size)
    assert stacked.shape == (4, 3, *size)
    assert stacked.dtype == np.uint8
    assert {tuple(pixel) for pixel in stacked[2].reshape(3, -1).T.tolist()} == {(0, 128, 0), (128, 0, 0)}


def test_views_of_the_right_size_are_unchanged():
    views = [COLOURS, COLOURS[::-1], COLOURS[:, ::-1], COLOURS // 2]
    for stacked, view in zip(stack_views(views, (9, 7)), views, strict=True):
        assert (stacked == view.transpose(2, 0, 1)).all()
