"""Figures: complete files, attention overlays at the right position, and rows for long captions."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import imageio.v3 as iio
import matplotlib
import numpy as np
import pytest

from data.palette import Palette
from tools.report.drawing import curve_svg, draw_attention, draw_pair, draw_robustness, overlay

VIEWS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
GREY = np.full((90, 90, 3), 100, dtype=np.uint8)


def words_with_attention(count: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    noise = np.random.default_rng(count)
    rgb, sem = noise.dirichlet(np.ones(9), (2, count)).reshape(2, count, 3, 3)
    return [f"word{i}" for i in range(count)], rgb, sem, noise.random((count, 3))


def test_a_pair_and_its_caption(tmp_path: Path):
    draw_pair(tmp_path / "new" / "pair.png", VIEWS, "a house is built")
    assert iio.imread(tmp_path / "new" / "pair.png").std() > 10


def test_a_legend_names_the_classes_in_the_maps(tmp_path: Path):
    palette = Palette(("flooded field", "dry field"), ((10, 20, 200), (200, 30, 200)))
    views = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    views[3, :, 8:20, 8:20] = np.array(palette.colours[1]).reshape(3, 1, 1)
    draw_pair(tmp_path / "pair.svg", views, "a field is flooded", palette)
    content = (tmp_path / "pair.svg").read_text(encoding="utf-8")
    assert "<!-- dry field -->" in content
    assert "flooded field" not in content


def test_each_word_has_a_column_and_long_captions_wrap(tmp_path: Path):
    sizes = {}
    for count in (1, 8, 9):
        draw_attention(tmp_path / "new" / "words.png", VIEWS, *words_with_attention(count))
        picture = iio.imread(tmp_path / "new" / "words.png")
        assert picture.std() > 10
        sizes[count] = picture.shape
    assert sizes[1][0] == sizes[8][0]
    assert sizes[1][1] < sizes[9][1] < sizes[8][1]  # nine words: five and four
    assert sizes[9][0] > 1.9 * sizes[8][0]


def test_attention_is_drawn_as_pdf(tmp_path: Path):
    draw_attention(tmp_path / "words.pdf", VIEWS, *words_with_attention(3))
    assert (tmp_path / "words.pdf").read_bytes().startswith(b"%PDF")


def test_overlay_is_where_the_attention_is():
    for row, column in ((0, 0), (0, 2), (1, 1), (2, 0)):
        weights = np.zeros((3, 3))
        weights[row, column] = 1
        brightness = overlay(GREY, weights).mean(axis=-1)
        cells = brightness.reshape(3, 30, 3, 30).mean(axis=(1, 3))
        assert np.unravel_index(cells.argmax(), (3, 3)) == (row, column)


def test_view_without_attention_is_unchanged():
    view = VIEWS[0].transpose(1, 2, 0)
    assert np.array_equal(overlay(view, np.zeros((3, 3))), view)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_colour_grows_with_attention_on_any_background(ground):
    view = np.full((2, 2, 3), ground, dtype=np.uint8)
    colours = np.stack([overlay(view, np.full((1, 1), weight))[0, 0] for weight in np.linspace(0, 1, 9)])
    distances = np.abs(colours - float(ground)).sum(axis=-1)
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()


def test_curves_are_an_svg_with_labels_and_the_best_epoch():
    series = {"METEOR": [10, 20, 15], "a < b": [1, None, 3]}
    texts = texts_of(curve_svg("validation scores", [1, 2, 3], series, best=2))
    assert {"validation scores", "epoch", "best", "METEOR", "a < b", "1", "2", "3"} <= set(texts)


def texts_of(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def robustness_texts(path: Path, **curves: Sequence[float]) -> list[str]:
    """The texts in the plot of two runs with the same accuracies, of which the first is the clean one."""

    def scores(value: float) -> dict:
        return {"accuracy": dict.fromkeys(("value", "low", "high"), value)}

    by_severity = {}
    for name, line in curves.items():
        by_severity[name] = {str(severity): scores(value) for severity, value in enumerate(line, 1)}
    clean = scores(next(iter(curves.values()))[0])
    runs = [{"label": label, "clean": clean, "curves": by_severity} for label in ("plain", "augmented")]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_robustness(path, runs, {"accuracy": "accuracy, %"})
    return texts_of(path.read_text())


@pytest.mark.parametrize(("value", "top"), [(0, 10), (40, 40), (100, 100)])
def test_percentages_have_an_axis_from_0_to_100_at_most(tmp_path: Path, value, top):
    texts = robustness_texts(tmp_path / "plot.svg", haze=[value, value])
    numbers = [float(text) for text in texts if text.isdigit()]
    assert (min(numbers), max(numbers)) == (0, top)
    assert {"plain", "augmented", "accuracy, %"} <= set(texts)


def test_mean_of_one_perturbation_has_no_panel(tmp_path: Path):
    texts = robustness_texts(tmp_path / "plot.svg", haze=[40, 20], mean=[40, 20])
    assert "haze" in texts
    assert "mean" not in texts
    texts = robustness_texts(tmp_path / "plot.svg", haze=[40, 20], noise=[40, 20], mean=[30, 20])
    assert {"haze", "noise", "mean"} <= set(texts)
