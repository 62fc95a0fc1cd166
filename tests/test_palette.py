"""The palette: its table, what is void, what is unknown, LEVIR-MCI's labels."""

import numpy as np
import pytest

from data.palette import (
    CLASSES,
    VOID,
    colour_label,
    map_classes,
    paint_classes,
    unknown_colours,
    void_to_black,
)


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    """One row of pixels: (1, W, 3)."""
    return np.array([colours], dtype=np.uint8)


def test_brightened_colours_are_80_brighter_and_saturate():
    for row in CLASSES:
        assert row.brightened == tuple(min(value + 80, 255) for value in row.base), row.name


def test_only_exact_white_becomes_black():
    image = picture((255, 255, 255), (255, 255, 254), (254, 255, 255), (128, 0, 0), (0, 0, 0))
    cleaned = void_to_black(image)
    assert cleaned.tolist() == picture(VOID, (255, 255, 254), (254, 255, 255), (128, 0, 0), VOID).tolist()
    assert image[0, 0].tolist() == [255, 255, 255], "the input is left alone"


def test_black_and_the_thirteen_colours_are_known():
    known = {VOID, *(row.base for row in CLASSES), *(row.brightened for row in CLASSES)}
    assert len(known) == 14
    assert unknown_colours(picture(*known)) == {}


def test_unknown_colours_are_counted():
    image = picture((1, 2, 3), (0, 128, 0), (1, 2, 3), (3, 2, 1))
    assert unknown_colours(image) == {(1, 2, 3): 2, (3, 2, 1): 1}


@pytest.mark.parametrize("brightness", ["base", "brightened"])
def test_both_brightnesses_of_a_colour_are_its_class(brightness):
    colours = picture(*(getattr(row, brightness) for row in CLASSES), VOID, (128, 0, 1))
    classes = map_classes(colours.transpose(2, 0, 1))
    assert classes.tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 0]], "a colour that no class has is void"


def test_painted_classes_are_read_back():
    classes = np.arange(7).reshape(1, 7).repeat(2, axis=0)  # (2, 7), as a batch of dates of one row
    maps = paint_classes(classes[:, None])
    assert maps.shape == (2, 3, 1, 7)
    assert maps.dtype == np.uint8
    assert maps[0, :, 0].T.tolist() == [list(VOID), *(list(row.base) for row in CLASSES[1:])]
    np.testing.assert_array_equal(map_classes(maps), classes[:, None])


def test_label_in_colours():
    assert colour_label(np.array([[0, 128, 255]], dtype=np.uint8)).tolist() == [
        [[0, 0, 0], [128, 128, 128], [128, 0, 0]]
    ]


def test_label_with_another_value_is_refused():
    with pytest.raises(
        ValueError, match=r"0 \(background\), 128 \(road\) and 255 \(building\), got \[1, 2\]"
    ):
        colour_label(np.array([[0, 1, 2, 255]], dtype=np.uint8))
