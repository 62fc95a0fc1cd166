"""The palette: its table, what is void, what is unknown, LEVIR-MCI's labels."""

import numpy as np
import pytest

from data.palette import (
    CLASSES,
    VOID,
    colour_label,
    has_class,
    map_classes,
    map_colours,
    paint_classes,
    unknown_colours,
    unknown_share,
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


def grey(*values: int) -> np.ndarray:
    """One row of grey pixels: (1, W, 3)."""
    return picture(*[(value,) * 3 for value in values])


BUILDING = (128, 0, 0)


@pytest.mark.parametrize(
    "values",
    [(0, 255), (255, 0, 0, 0), (0, 1), (0, 3, 250, 255, 255, 0, 255)],
    ids=["0/255", "mostly void", "0/1", "JPEG"],
)
def test_a_mask_is_painted_as_its_class_and_refused_without_one(values):
    with pytest.raises(
        ValueError, match=r"is a mask of 0 and (1|255), .*: give its class with --mask_class \(low"
    ):
        map_colours(grey(*values))
    painted = map_colours(grey(*values), "building")
    half = max(values) / 2
    assert painted.tolist() == picture(*[BUILDING if value > half else VOID for value in values]).tolist()
    assert map_colours(grey(*values), "water").max(axis=(0, 1)).tolist() == [0, 0, 255]


def test_all_white_map_is_void_unless_masks_are_expected():
    assert map_colours(grey(255, 255)).tolist() == grey(0, 0).tolist()
    assert map_colours(grey(0, 0)).tolist() == grey(0, 0).tolist()
    assert map_colours(grey(255, 255), "building").tolist() == picture(BUILDING, BUILDING).tolist()
    assert map_colours(grey(0, 0), "building").tolist() == grey(0, 0).tolist()


def test_black_and_white_are_both_void_in_a_map_with_colours():
    for mask_class in (None, "water"):
        image = picture((0, 0, 0), (255, 255, 255), BUILDING, (1, 2, 3))
        assert map_colours(image, mask_class).tolist() == picture(VOID, VOID, BUILDING, (1, 2, 3)).tolist()


@pytest.mark.parametrize("shade", [128, 208])
@pytest.mark.parametrize("void", [0, 255])
def test_grey_class_is_not_a_mask(shade, void):
    assert map_colours(grey(shade, void)).tolist() == grey(shade, 0).tolist()


@pytest.mark.parametrize(
    "values", [(5,), (0, 5), (1, 2, 3), (0, 2), (255, 7), tuple(range(7)), tuple(range(30))]
)
@pytest.mark.parametrize("mask_class", [None, "building"])
def test_class_indices_are_refused(values, mask_class):
    with pytest.raises(
        ValueError, match=r"greyscale values \[\d.*, which look like class indices: paint each"
    ):
        map_colours(grey(*values), mask_class)


def test_levir_mci_label_is_refused_as_a_map():
    with pytest.raises(
        ValueError, match=r"holds 0, 128 and 255 .*: paint 255 as a building, \(128, 0, 0\), or"
    ):
        map_colours(grey(0, 128, 255), "building")


def test_greyscale_photo_is_not_a_mask():
    photo = grey(*range(256))
    assert unknown_share(map_colours(photo)) > 0.9
    assert not has_class(map_colours(grey(*range(60, 100))))


def test_most_common_unknown_colours_come_first():
    image = picture(*[(1, 2, 3)] * 3, *[(0, 0, 1)] * 1, *[(9, 9, 9)] * 2, (128, 0, 0))
    assert list(unknown_colours(image, most=2).items()) == [((1, 2, 3), 3), ((9, 9, 9), 2)]


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
