"""Image files of every kind as (H, W, 3) uint8, and views of a pair at one size."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import read_label, read_map, read_rgb, read_views, stack_views

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


def test_colours_stay(tmp_path):
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


def test_a_map_in_the_palette_is_read_as_its_colours(tmp_path):
    image = Image.fromarray(np.array([[2, 0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 128, 0, 128, 0, 0])
    assert read_map(stored(tmp_path / "a.png", image)).tolist() == [[[128, 0, 0], [0, 0, 0], [0, 128, 0]]]


def test_16_bit_greyscale_is_refused(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(GREY.astype(np.uint16) * 256))
    with pytest.raises(ValueError, match=r"a\.png: an image has 8 bits per channel"):
        read_rgb(path)


def test_16_bit_colour_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: an image has 8 bits per channel"):
        read_rgb(png_with_16_bit_colours(tmp_path / "a.png"))


def test_an_absent_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.png not found"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_an_image_cut_anywhere_is_refused(tmp_path, ending):
    path = stored(tmp_path / f"a.{ending}", Image.fromarray(COLOURS))
    whole = path.read_bytes()
    for length in (0, 5, 20, len(whole) // 2, len(whole) * 3 // 4):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"a\.{ending} is no image .* in full, .*: replace it") as found:
            read_rgb(path)
        assert "pillow" not in str(found.value)


def test_a_label_is_painted_in_the_palette(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8)))
    assert read_label(path).tolist() == [[[0, 0, 0], [128, 128, 128], [128, 0, 0]]]


def test_a_label_with_other_values_or_colours_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: a label holds only 0"):
        read_label(stored(tmp_path / "a.png", Image.fromarray(np.array([[0, 7]], dtype=np.uint8))))
    with pytest.raises(ValueError, match=r"a\.png: a label is greyscale"):
        read_label(stored(tmp_path / "a.png", Image.fromarray(COLOURS)))


def test_absent_maps_are_void(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(COLOURS))
    views = read_views((path, path, None, None))
    assert (views[0] == COLOURS).all()
    assert not views[2].any()
    assert not views[3].any()


def test_images_of_one_pair_must_have_one_size(tmp_path):
    large = stored(tmp_path / "large.png", Image.fromarray(COLOURS))
    small = stored(tmp_path / "small.png", Image.fromarray(COLOURS[:4]))
    with pytest.raises(ValueError, match=r"large\.png: .* one size .*, got 9 x 7, 9 x 7, 4 x 7, 9 x 7"):
        read_views((large, large, small, None))
    with pytest.raises(ValueError, match="one size"):
        read_views((small, large, None, None))


@pytest.mark.parametrize("size", [(5, 4), (9, 7), (20, 31)])
def test_resizing_mixes_image_colours_but_never_map_colours(tmp_path, size):
    semantic = np.where(GREY[..., None] < 128, np.uint8([0, 128, 0]), np.uint8([128, 0, 0]))
    stacked = stack_views([COLOURS, COLOURS, semantic, semantic], size)
    assert stacked.shape == (4, 3, *size)
    assert stacked.dtype == np.uint8
    assert {tuple(pixel) for pixel in stacked[2].reshape(3, -1).T.tolist()} == {(0, 128, 0), (128, 0, 0)}


def test_views_of_the_right_size_stay_as_they_are():
    views = [COLOURS, COLOURS[::-1], COLOURS[:, ::-1], COLOURS // 2]
    for stacked, view in zip(stack_views(views, (9, 7)), views, strict=True):
        assert (stacked == view.transpose(2, 0, 1)).all()
