"""The palette: SECOND's table, palette files, void, unknown colours, maps masked by their difference."""

from pathlib import Path

import numpy as np
import pytest

from data.maps.palette_file import find_palette, read_palette
from data.palette import (
    SECOND,
    VOID,
    WHITE,
    MapClasses,
    Palette,
    classes_by_date,
    has_class,
    mask_unchanged,
    same_class,
    same_classes,
    unknown_colours,
)

OWN = Palette(("water", "forest"), ((0, 0, 255), (0, 90, 0)), void=((9, 9, 9),))


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    """One row of pixels: (1, W, 3)."""
    return np.array([colours], dtype=np.uint8)


def test_brightened_colours_are_80_brighter_and_saturate():
    for colour, brightened in zip(SECOND.colours, SECOND.brightened, strict=True):
        assert brightened == tuple(min(value + 80, 255) for value in colour)


def test_most_common_unknown_colours_come_first():
    image = picture(*[(1, 2, 3)] * 3, *[(0, 0, 1)] * 1, *[(9, 9, 9)] * 2, (128, 0, 0))
    assert list(unknown_colours(image, SECOND, most=2).items()) == [((1, 2, 3), 3), ((9, 9, 9), 2)]


def test_black_white_and_the_colours_of_classes_are_known():
    assert unknown_colours(picture(VOID, WHITE, *SECOND.colours, *SECOND.brightened), SECOND) == {}
    assert unknown_colours(picture(VOID, (9, 9, 9), *OWN.colours, (128, 0, 0)), OWN) == {(128, 0, 0): 1}


@pytest.mark.parametrize("colours", [SECOND.colours, SECOND.brightened], ids=["base", "brightened"])
def test_both_brightnesses_of_a_colour_are_its_class(colours):
    classes = SECOND.map_classes(picture(WHITE, *colours, VOID, (128, 0, 1)).transpose(2, 0, 1))
    assert classes.tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 0]], "a colour that no class has is void"


@pytest.mark.parametrize("palette", [SECOND, OWN], ids=["SECOND", "own"])
def test_painted_classes_are_read_back(palette):
    count = len(palette.labels)
    classes = np.arange(count).reshape(1, count).repeat(2, axis=0)  # (2, n), as a batch of dates of one row
    maps = palette.paint(classes[:, None])
    assert maps.shape == (2, 3, 1, count)
    assert maps.dtype == np.uint8
    assert [tuple(colour) for colour in maps[0, :, 0].T.tolist()] == [VOID, *palette.colours]
    np.testing.assert_array_equal(palette.map_classes(maps), classes[:, None])


def test_254_classes_are_painted_and_read_back():
    colours = tuple((index, 0, 255 - index) for index in range(254))
    palette = Palette(tuple(map(str, range(254))), colours)
    classes = np.arange(255).reshape(1, 255)
    np.testing.assert_array_equal(palette.map_classes(palette.paint(classes)), classes)


def test_black_class_is_grey_in_prepared_maps():
    palette = Palette(("water", "forest"), ((0, 0, 0), (64, 64, 64)), void=(WHITE,))
    assert palette.prepared == ((65, 65, 65), (64, 64, 64))
    assert palette.file_colours == {(0, 0, 0): (65, 65, 65), (64, 64, 64): (64, 64, 64), WHITE: VOID}
    classes = np.array([[0, 1, 2]])
    np.testing.assert_array_equal(palette.map_classes(palette.paint(classes)), classes)


def test_classes_of_an_own_palette_are_counted_for_each_date():
    before, after = (OWN.paint(np.array([row])) for row in ([0, 1], [2, 0]))
    assert classes_by_date([np.stack([before, after])], OWN) == MapClasses((1,), (2,), OWN)
    assert has_class(before.transpose(1, 2, 0), OWN)
    assert not has_class(picture((128, 0, 0)), OWN)


def test_stored_palette_is_read_back():
    for palette in (SECOND, OWN):
        assert Palette.from_json(palette.to_json()) == palette
    assert Palette.from_json(None) == SECOND, "files of earlier versions"
    for text in ("[]", '{"names": 3}', "{", '{"names": ["a"], "colours": 3, "void": [], "brightened": []}'):
        with pytest.raises(ValueError, match="its palette is not valid"):
            Palette.from_json(text)


def write(folder: Path, text: str, name: str = "palette.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_palette_file_is_read(tmp_path):
    path = write(tmp_path, "classes: {water: [0, 0, 255], forest: [0, 128, 0]}\nvoid: [[1, 2, 3]]\n")
    palette = Palette(("water", "forest"), ((0, 0, 255), (0, 128, 0)), void=((1, 2, 3),))
    assert find_palette(tmp_path) == find_palette(tmp_path / "captions.json") == (palette, path)


@pytest.mark.parametrize("name", ["palette.yml", "Palette.YAML"])
def test_palette_file_may_have_another_ending_or_case(tmp_path, name):
    path = write(tmp_path, "classes: {water: [0, 0, 255]}", name)
    assert find_palette(tmp_path)[1] == path


def test_data_set_without_palette_has_that_of_second(tmp_path):
    assert find_palette(tmp_path) == (SECOND, None)
    assert find_palette(tmp_path / "missing" / "captions.json") == (SECOND, None)


def test_two_palette_files_are_refused(tmp_path):
    for name in ("palette.yml", "palette.yaml"):
        write(tmp_path, "classes: {water: [0, 0, 255]}", name)
    with pytest.raises(ValueError, match=r"must hold one palette, got .*palette.yml: delete one of them"):
        find_palette(tmp_path)


def test_black_and_white_are_void_unless_a_class_has_them(tmp_path):
    assert read_palette(write(tmp_path, "classes: {a: [1, 0, 0]}")).void == (VOID, WHITE)
    assert read_palette(write(tmp_path, "classes: {a: [255, 255, 255]}")).void == (VOID,)


INVALID = {
    "no YAML": ("classes: {water: [0, 0", "is not YAML .*: write it as"),
    "no mapping": ("[1, 2]", "must have `classes`, a colour for each name: write it as"),
    "no classes": ("void: [[0, 0, 0]]", "must have `classes`"),
    "a list of classes": ("classes: [water]", "must have `classes`"),
    "empty": ("classes: {}", "must have 1 to 254 classes, got 0: write it as"),
    "too many": (
        "classes: {" + ", ".join(f"c{i}: [{i}, 1, 1]" for i in range(255)) + "}",
        "must have 1 to 254 classes, got 255",
    ),
    "unknown key": ("classes: {a: [1, 2, 3]}\ncolours: 3", "has `classes` and `void`, got 'colours': remove"),
    "repeated name": (
        "classes: {a: [1, 2, 3], a: [3, 2, 1]}",
        "names .* must differ, a occurs twice: rename",
    ),
    "repeated colour": (
        "classes: {a: [1, 2, 3], b: [1, 2, 3]}",
        r"colours of the classes must differ, a and b both have \[1, 2, 3\]: give one of them",
    ),
    "colour of void": (
        "classes: {a: [1, 2, 3]}\nvoid: [[1, 2, 3]]",
        r"void and class a both have the colour \[1, 2, 3\]: remove it from `void`",
    ),
    "out of range": ("classes: {a: [1, 2, 256]}", r"from 0 to 255, got \[1, 2, 256\]: write for example"),
    "negative": ("classes: {a: [1, 2, -1]}", r"from 0 to 255, got \[1, 2, -1\]"),
    "two values": ("classes: {a: [1, 2]}", r"\[red, green, blue\] of whole numbers .*, got \[1, 2\]"),
    "a fraction": ("classes: {a: [1, 2, 0.5]}", r"whole numbers from 0 to 255, got \[1, 2, 0.5\]"),
    "a truth value": ("classes: {a: [1, 2, true]}", r"whole numbers from 0 to 255, got \[1, 2, True\]"),
    "a word": ("classes: {a: red}", "whole numbers from 0 to 255, got 'red'"),
    "name of a number": (
        "classes: {1: [1, 2, 3]}",
        "name of a class must be text .*, got 1: put it in quotes",
    ),
    "name of a truth value": ("classes: {no: [1, 2, 3]}", "must be text .*, got False: put it in quotes"),
    "empty name": ("classes: {'': [1, 2, 3]}", "must be text of 1 to 100 characters, got ''"),
    "void as a class": (
        "classes: {Void: [1, 2, 3]}",
        "must not be named Void, .*: list its colour under `void`",
    ),
    "one void colour": ("classes: {a: [1, 2, 3]}\nvoid: [0, 0, 0]", r"`void` must be a list of colours, got"),
    "a void word": ("classes: {a: [1, 2, 3]}\nvoid: black", "`void` must be a list of colours, got 'black'"),
    "bad void colour": ("classes: {a: [1, 2, 3]}\nvoid: [[0, 0]]", r"from 0 to 255, got \[0, 0\]"),
}


@pytest.mark.parametrize(("text", "message"), INVALID.values(), ids=INVALID)
def test_invalid_palette_file_is_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as error:
        find_palette(tmp_path)
    assert str(error.value).count(str(path)) == 1
    assert "\n" not in str(error.value)


def test_palettes_mean_the_same_if_names_and_colours_agree():
    assert same_classes(OWN, Palette(OWN.names, OWN.colours))
    assert not same_classes(OWN, Palette(("water", "wood"), OWN.colours))
    assert not same_classes(OWN, Palette(OWN.names, OWN.colours[::-1]))
    assert not same_classes(OWN, SECOND)


def test_pixels_of_the_same_class_are_masked():
    base, bright = SECOND.colours[4], SECOND.brightened[4]
    before = picture(base, base, VOID, base, (7, 7, 70), (7, 7, 70))
    after = picture(base, bright, base, (0, 0, 255), (7, 7, 70), (7, 7, 71))
    assert same_class(before, after, SECOND).tolist() == [[True, True, False, False, True, False]]
    masked = mask_unchanged(before, after, SECOND)
    assert masked[0].tolist() == picture(VOID, VOID, VOID, base, VOID, (7, 7, 70)).tolist()
    assert masked[1].tolist() == picture(VOID, VOID, base, (0, 0, 255), VOID, (7, 7, 71)).tolist()
