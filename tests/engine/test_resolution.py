"""The ground resolution of new images is compared with that of the training images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import caption
from tools.engine.checkpoint import load_checkpoint
from tools.engine.predictor import Predictor
from tools.engine.resolution import resolution_remark


@pytest.fixture(scope="module")
def predictor(tiny_run) -> Predictor:
    """Trained on images of 256 x 256 pixels of 0.375 metres, resized to 32 x 32."""
    return Predictor.load(tiny_run / "best.pt", device="cpu")


@pytest.fixture
def image(tmp_path) -> Callable[[int, int], Path]:
    """A function that writes an image of a size and returns its path."""

    def write(height: int, width: int) -> Path:
        path = tmp_path / f"{height}_{width}.png"
        Image.new("RGB", (width, height)).save(path)
        return path

    return write


def test_a_checkpoint_holds_the_resolution_of_its_input(tiny_run, predictor):
    assert load_checkpoint(tiny_run / "best.pt")["metres_per_pixel"] == 3.0
    assert predictor.metres_per_pixel == 3.0


def test_resolutions_within_the_factor_are_not_remarked_on(predictor, image):
    for metres, size in ((1.0, 96), (3.0, 32), (1.49, 96), (0.68, 96)):
        assert resolution_remark(predictor, metres, [image(size, size)]) is None


def test_other_resolutions_are_remarked_on_in_one_line(predictor, image):
    images = [image(96, 96), image(192, 192), image(384, 96)]
    remark = resolution_remark(predictor, 1.0, images)
    assert remark.startswith(
        "2 of 3 pairs have 6 metres per pixel at the model's input, more than a factor of"
    )
    assert remark.endswith("1.5 from the 3 of its training: give images that cover about 96 x 96 metres")
    assert "have 0.5 to 6 metres" in resolution_remark(predictor, 1 / 6, [image(96, 96), image(1152, 1152)])


def test_files_that_cannot_be_read_are_left_out(predictor, image, tmp_path):
    (tmp_path / "text.png").write_text("text")
    images = [tmp_path / "text.png", tmp_path / "absent.png"]
    assert resolution_remark(predictor, 9.0, images) is None
    assert resolution_remark(predictor, 9.0, [*images, image(96, 96)]).startswith("1 of 3 pairs")


def test_an_unknown_resolution_of_the_training_images_is_stated(predictor, image):
    unknown = replace(predictor, metres_per_pixel=None)
    remark = resolution_remark(unknown, 1.0, [image(96, 96)])
    assert remark.startswith("--metres_per_pixel is not compared")
    assert "create_input_files.py --metres_per_pixel" in remark


def test_caption_prints_the_remark(tiny_run, demo_input, capsys):
    test = demo_input.parent / "dataset" / "test" / "rgb"
    pair = [str(sorted((test / date).iterdir())[0]) for date in "AB"]
    for metres, remarks in ((0.375, 0), (1.875, 1)):
        caption.main([*pair, "--checkpoint", str(tiny_run / "best.pt"), "--metres_per_pixel", str(metres)])
        assert capsys.readouterr().err.count("1 of 1 pairs have 15 metres per pixel") == remarks
