"""The Predictor: one caption for a pair however it is given, and errors that say what to do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import caption
from data.errors import UserError
from data.images import read_rgb
from data.sources import NO_CHANGE_SENTENCES
from tests.conftest import CONFIGS
from tests.helpers.tiny import save_tiny_detector
from tools.engine.checkpoint import load_checkpoint, stored_config
from tools.engine.predictor import Answer, Predictor

VIEWS = ("rgb/A", "rgb/B", "sem/A", "sem/B")


@pytest.fixture(scope="module")
def checkpoint(tiny_run) -> Path:
    return tiny_run / "best.pt"


@pytest.fixture(scope="module")
def predictor(checkpoint) -> Predictor:
    return Predictor.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def pairs(demo_input) -> list[list[Path]]:
    """The four files of each test pair."""
    test = demo_input.parent / "dataset" / "test"
    return list(map(list, zip(*(sorted((test / view).iterdir()) for view in VIEWS), strict=True)))


def assert_same(answer: Answer, other: Answer) -> None:
    assert answer.text == other.text
    assert answer.log_prob == pytest.approx(other.log_prob, rel=1e-6, abs=1e-5)
    assert answer.changed == other.changed
    np.testing.assert_array_equal(answer.views, other.views)


def test_paths_arrays_and_pillow_images_give_the_same_caption(predictor, pairs):
    for files in pairs[:2]:
        expected = predictor.caption(*files)
        assert_same(predictor.caption(*map(str, files)), expected)
        assert_same(predictor.caption(*map(read_rgb, files)), expected)
        assert_same(predictor.caption(*map(Image.open, files)), expected)


def test_input_arrays_are_not_modified(predictor, pairs):
    arrays = [read_rgb(path) for path in pairs[0]]
    copies = [array.copy() for array in arrays]
    predictor.caption(*arrays)
    for array, original in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, original)


def test_captions_equal_those_of_caption_py(predictor, checkpoint, pairs, capsys):
    files = list(map(str, pairs[0]))
    options = ["--checkpoint", str(checkpoint), "--json", "--answers", "3", "--decode.device", "cpu"]
    caption.main([*files, *options])
    printed = json.loads(capsys.readouterr().out)["answers"]
    answer = predictor.caption(*files, answers=3)
    assert [each.text for each in answer.answers] == [each["caption"] for each in printed]
    for each, other in zip(answer.answers, printed, strict=True):
        assert each.log_prob == pytest.approx(other["log_prob"], abs=1e-5)


def test_several_answers_begin_with_the_most_likely(predictor, pairs):
    answer = predictor.caption(*pairs[0], answers=3)
    scores = [each.log_prob for each in answer.answers]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert str(answer) == answer.text == predictor.caption(*pairs[0]).text
    with pytest.raises(UserError, match="5 answers need as many beams: raise decode.beam_size, now 4"):
        predictor.caption(*pairs[0], answers=5)


def test_pairs_are_read_in_batches_and_captioned_in_order(predictor, pairs):
    read = []

    def given():
        for number, files in enumerate(pairs):
            read.append(number)
            yield files

    answers = predictor.caption_many(given(), batch_size=2)
    assert read == []
    first = next(answers)
    assert read == [0, 1]
    for answer, files in zip([first, *answers], pairs, strict=True):
        assert_same(answer, predictor.caption(*files))
    assert list(predictor.caption_many([])) == []


def test_pairs_may_lack_maps(predictor, pairs):
    before, after, _, second = pairs[0]
    answer = predictor.caption(before, after)
    assert not answer.views[2:].any()
    with_second = predictor.caption(before, after, map_after=second)
    assert not with_second.views[2].any()
    np.testing.assert_array_equal(with_second.views[3], predictor.caption(*pairs[0]).views[3])


def test_detector_predicts_only_missing_maps(predictor, checkpoint, pairs, demo_input, tmp_path):
    save_tiny_detector(tmp_path / "detector.pt", demo_input)
    with_detector = Predictor.load(checkpoint, tmp_path / "detector.pt", device="cpu")
    detected, given = with_detector.caption_many([pairs[0][:2], pairs[0]])
    assert detected.views[2:].any()
    assert_same(given, predictor.caption(*pairs[0]))
    np.testing.assert_array_equal(detected.views[:2], given.views[:2])


IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE.astype(np.float32), r"must be \(H, W, 3\) uint8, got \(32, 32, 3\) float32: convert it to"),
        (IMAGE[..., 0], r"must be \(H, W, 3\) uint8, got \(32, 32\) uint8: convert it to 8-bit RGB"),
        (IMAGE.transpose(2, 0, 1), r"must be \(H, W, 3\) uint8, got \(3, 32, 32\) uint8: convert it"),
        (IMAGE[:0], r"must be \(H, W, 3\) uint8, got \(0, 32, 3\) uint8"),
        (IMAGE[:16], r"have one size .*, got 32 x 32, 16 x 32.*: crop or resize them"),
    ],
    ids=["float", "greyscale", "channels first", "empty", "another size"],
)
def test_wrong_arrays_are_refused_in_one_line(predictor, image, message):
    with pytest.raises(UserError, match=message) as caught:
        predictor.caption(IMAGE, image)
    assert "\n" not in str(caught.value)


def test_torch_hub_gives_the_same_predictor(predictor, checkpoint, pairs, demo_input, tmp_path):
    save_tiny_detector(tmp_path / "detector.pt", demo_input)
    options = {"checkpoint": checkpoint, "detector": tmp_path / "detector.pt", "device": "cpu"}
    loaded = torch.hub.load(str(CONFIGS.parent), "captioner", source="local", **options)
    assert isinstance(loaded, Predictor)
    assert loaded.detector is not None
    assert_same(loaded.caption(*pairs[0]), predictor.caption(*pairs[0]))


def test_hub_requires_only_packages_of_requirements_txt():
    import hubconf

    modules = {"PIL": "pillow", "yaml": "pyyaml"}
    pinned = (CONFIGS.parent / "requirements.txt").read_text().lower()
    for name in hubconf.dependencies:
        assert f"\n{modules.get(name, name)}" in f"\n{pinned}"


def test_a_caption_reports_a_change_unless_it_is_a_no_change_sentence(predictor, checkpoint, pairs):
    answer = predictor.caption(*pairs[0])
    assert answer.changed == (answer.text not in predictor.no_change)
    assert not replace(predictor, no_change=(answer.text,)).caption(*pairs[0]).changed
    assert replace(predictor, no_change=()).caption(*pairs[0]).changed
    content = load_checkpoint(checkpoint)
    config = stored_config(content)
    assert predictor.no_change == tuple(content["no_change"])
    del content["no_change"]  # as in checkpoints of earlier versions
    assert Predictor.restore(content, config).no_change == NO_CHANGE_SENTENCES
    own = replace(config, data=replace(config.data, no_change=["all alike"]))
    assert Predictor.restore(content, own).no_change == ("all alike",)
