"""Pictures: they are written in full, heat lies where the attention is, long captions take several bands."""

from pathlib import Path
from xml.etree import ElementTree

import imageio.v3 as iio
import numpy as np

from tools.drawing import curve_svg, draw_attention, draw_pair, overlay

VIEWS = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
GREY = np.full((90, 90, 3), 100, dtype=np.uint8)


def words_with_attention(count: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    noise = np.random.default_rng(count)
    rgb, sem = noise.dirichlet(np.ones(9), (2, count)).reshape(2, count, 3, 3)
    return [f"word{i}" for i in range(count)], rgb, sem, noise.random((count, 3))


def test_a_pair_and_its_caption(tmp_path: Path):
    draw_pair(tmp_path / "new" / "pair.png", VIEWS, "a house is built")
    assert iio.imread(tmp_path / "new" / "pair.png").std() > 10


def test_words_take_a_column_each_and_long_captions_several_bands(tmp_path: Path):
    sizes = {}
    for count in (1, 8, 9):
        draw_attention(tmp_path / "new" / "words.png", VIEWS, *words_with_attention(count))
        picture = iio.imread(tmp_path / "new" / "words.png")
        assert picture.std() > 10
        sizes[count] = picture.shape
    assert sizes[1][0] == sizes[8][0]
    assert sizes[1][1] < sizes[9][1] < sizes[8][1]  # nine words: five and four
    assert sizes[9][0] > 1.9 * sizes[8][0]


def test_a_picture_for_print(tmp_path: Path):
    draw_attention(tmp_path / "words.pdf", VIEWS, *words_with_attention(3))
    assert (tmp_path / "words.pdf").read_bytes().startswith(b"%PDF")


def test_heat_lies_where_the_attention_is():
    for row, column in ((0, 0), (0, 2), (1, 1), (2, 0)):
        weights = np.zeros((3, 3))
        weights[row, column] = 1
        brightness = overlay(GREY, weights).mean(axis=-1)
        cells = brightness.reshape(3, 30, 3, 30).mean(axis=(1, 3))
        assert np.unravel_index(cells.argmax(), (3, 3)) == (row, column)


def test_without_attention_a_view_stays_visible():
    view = VIEWS[0].transpose(1, 2, 0)
    faded = overlay(view, np.zeros((3, 3)))
    assert np.corrcoef(view.ravel(), faded.ravel())[0, 1] > 0.6


def test_curves_are_an_svg_with_labels_and_the_best_epoch():
    series = {"METEOR": [10, 20, 15], "a < b": [1, None, 3]}
    root = ElementTree.fromstring(curve_svg("validation scores", [1, 2, 3], series, best=2))
    texts = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"validation scores", "epoch", "best", "METEOR", "a < b", "1", "2", "3"} <= texts
