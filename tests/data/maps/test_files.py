"""Map files of every kind: how each is recognised, read or refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.maps.files import MapFacts, read_label, read_map, read_pair, read_views
from data.maps.grey import settings_of
from data.maps.levir_labels import colour_label
from data.maps.settings import MapSettings
from data.palette import SECOND, VOID, WHITE, Palette

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
BUILDING, WATER, TREE = (128, 0, 0), (0, 0, 255), (0, 255, 0)
OWN = Palette(("water", "forest", "field"), ((0, 0, 255), (0, 90, 0), (230, 200, 40)))
ONE = Palette(("flooded",), ((0, 0, 255),))


def stored(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def picture(*colours: tuple[int, int, int]) -> np.ndarray:
    """One row of pixels: (1, W, 3)."""
    return np.array([colours], dtype=np.uint8)


def grey(*values: int) -> np.ndarray:
    """One row of grey pixels: (1, W, 3)."""
    return picture(*[(value,) * 3 for value in values])


def colours_of(source, **settings) -> list:
    """The colours of a map with one row, as read."""
    return [tuple(pixel) for pixel in read_map(source, MapSettings(**settings))[0][0].tolist()]


def grey_image(*values: int, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


def scene(palette: Palette = SECOND) -> np.ndarray:
    """A map (64, 64, 3) of three areas on void."""
    classes = np.zeros((64, 64), int)
    classes[4:30, 6:28], classes[35:60, 5:25], classes[10:50, 35:60] = 1, 2, 3
    return palette.paint(classes).transpose(1, 2, 0)


def as_jpeg(image: np.ndarray, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_only_exact_white_becomes_void_in_colours():
    assert colours_of(picture(WHITE, BUILDING, VOID, (60, 200, 200))) == [
        VOID,
        BUILDING,
        VOID,
        (60, 200, 200),
    ]


@pytest.mark.parametrize(
    "values",
    [(0, 255), (255, 0, 0, 0), (0, 1), (0, 3, 250, 255, 255, 0, 255)],
    ids=["0/255", "mostly void", "0/1", "JPEG"],
)
def test_a_mask_is_painted_as_its_class_and_refused_without_one(values):
    with pytest.raises(
        ValueError, match=r"is a mask of 0 and (1|255).*: give its class with --mask_class \(low"
    ):
        read_map(grey(*values))
    half = max(values) / 2
    expected = [BUILDING if value > half else VOID for value in values]
    assert colours_of(grey(*values), mask_class="building") == expected
    assert read_map(grey(*values), MapSettings(mask_class="water"))[1] == MapFacts("mask")


def test_mask_of_0_and_1_may_be_class_indices():
    with pytest.raises(ValueError, match="a mask of 0 and 1 or class indices of 0 and 1, not a map in the"):
        read_map(grey(0, 1))
    with pytest.raises(
        ValueError, match="holds only the value 1, a mask or a class index: name the class with"
    ):
        read_map(grey(1, 1))


def test_all_white_map_is_void_unless_masks_are_expected():
    assert colours_of(grey(255, 255)) == [VOID, VOID]
    assert colours_of(grey(0, 0)) == [VOID, VOID]
    assert colours_of(grey(255, 255), mask_class="building") == [BUILDING, BUILDING]
    assert colours_of(grey(0, 0), mask_class="building") == [VOID, VOID]


@pytest.mark.parametrize("values", [(0, 1), (1, 1), (0, 255)])
def test_mask_shows_the_only_class_of_a_palette(values):
    expected = [WATER if value else VOID for value in values]
    assert colours_of(grey(*values), palette=ONE) == expected


@pytest.mark.parametrize("shade", [128, 208])
@pytest.mark.parametrize("void", [0, 255])
def test_grey_class_is_not_a_mask(shade, void):
    assert colours_of(grey(shade, void)) == [(shade,) * 3, VOID]


def test_white_class_on_black_is_not_a_mask():
    palette = Palette(("paved",), (WHITE,), void=(VOID,))
    assert colours_of(grey(0, 255), palette=palette) == [VOID, WHITE]


def test_void_of_another_colour_is_black():
    palette = Palette(OWN.names, OWN.colours, void=((128, 128, 128),))
    assert colours_of(picture((128, 128, 128), WATER, VOID), palette=palette) == [VOID, WATER, VOID]
    assert colours_of(grey(128, 128), palette=palette) == [VOID, VOID]


def test_black_class_is_not_void():
    palette = Palette(("water", "land"), (VOID, (200, 0, 0)), void=(WHITE,))
    assert colours_of(picture(VOID, WHITE, (200, 0, 0)), palette=palette) == [(64,) * 3, VOID, (200, 0, 0)]


@pytest.mark.parametrize("values", [(5,), (0, 5), (1, 2, 3), (0, 2), tuple(range(7)), (0, 3, 255)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_class_indices_are_read(tmp_path, values, dtype):
    path = stored(tmp_path / "a.png", grey_image(*values, dtype=dtype))
    painted = [VOID, *SECOND.colours]
    assert colours_of(path) == [VOID if value == 255 else painted[value] for value in values]
    assert read_map(path)[1] == MapFacts("class indices")


@pytest.mark.parametrize("values", [(0, 1), (1, 1), (0, 0), (0, 255), (0, 1, 255)])
def test_small_class_indices_are_read_where_the_data_set_has_them(values):
    expected = [SECOND.colours[0] if value == 1 else VOID for value in values]
    assert colours_of(grey(*values), map_indices=True) == expected


@pytest.mark.parametrize("values", [(255, 7), (0, 1, 9), tuple(range(30))])
def test_class_indices_above_the_number_of_classes_are_refused(values):
    with pytest.raises(
        ValueError, match=r"values \[\d.*\], .* class indices: these must be 0 \(void\) to 6 \(low"
    ):
        read_map(grey(*values))


def test_class_indices_are_refused_as_a_mask():
    with pytest.raises(
        ValueError, match=r"\[1, 2\], which look like class indices, not a mask: leave --mask_class"
    ):
        read_map(grey(1, 2), MapSettings(mask_class="building"))


def test_class_indices_as_jpeg_are_refused():
    image = as_jpeg(np.repeat(np.uint8([[0, 1, 2, 5] * 4] * 16)[..., None], 3, axis=2), quality=90)
    with pytest.raises(
        ValueError, match="look like class indices changed by JPEG or WebP: save the map as PNG"
    ):
        read_map(image)


@pytest.mark.parametrize("shade", [120, 128, 140])
def test_grey_jpeg_maps_are_read_by_their_closest_grey(shade):
    palette = Palette(("a", "b"), ((0, 128, 0), (0, 0, 255)), void=((128,) * 3,))
    assert colours_of(as_jpeg(np.full((8, 8, 3), shade, np.uint8), quality=60), palette=palette) == [VOID] * 8


def test_16_bit_values_above_255_are_refused(tmp_path):
    path = stored(tmp_path / "a.png", grey_image(0, 40000, dtype=np.uint16))
    with pytest.raises(ValueError, match="8 bits .*: convert it to 8 bits; .* class indices, it has 40000"):
        read_map(path)


def test_levir_mci_label_is_refused_as_a_map():
    with pytest.raises(
        ValueError, match=r"holds 0, 128 and 255 .*: paint 255 as a building, \(128, 0, 0\), or"
    ):
        read_map(grey(0, 128, 255), MapSettings(mask_class="building"))
    with pytest.raises(ValueError, match=r"which are not in the palette: give the classes the colours \[128"):
        read_map(grey(0, 128, 255), MapSettings(OWN))
    palette = Palette(("road", "house"), ((128,) * 3, WHITE), void=(VOID,))
    assert colours_of(grey(0, 128, 255), palette=palette) == [VOID, (128,) * 3, WHITE]


def palette_image(colours: list[tuple[int, int, int]], indices: list[int]) -> Image.Image:
    image = Image.fromarray(np.array([indices], dtype=np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def test_palette_image_is_read_by_its_colours(tmp_path):
    path = stored(tmp_path / "a.png", palette_image([BUILDING, WHITE, WATER], [2, 0, 1]))
    assert colours_of(path) == [WATER, BUILDING, VOID]
    assert read_map(path)[1].kind == "palette image"


def test_palette_image_of_other_colours_with_valid_indices_is_refused(tmp_path):
    path = stored(tmp_path / "a.png", palette_image([VOID, BUILDING, (200, 30, 200)], [0, 1, 2]))
    with pytest.raises(
        ValueError,
        match=r"a.png is a palette image with the colour \(200, 30, 200\) of no class, but its indices 0 to "
        "2 may be classes: save the indices as a greyscale image, or write palette.yaml with your classes",
    ):
        read_map(path)


CLASSES = r"the model's classes are water \(0, 0, 255\), forest \(0, 90, 0\), field \(230, 200, 40\)"


@pytest.mark.parametrize("painted", [(64, 64), (8, 12)], ids=["photo", "other palette on void"])
def test_a_trained_model_refuses_maps_without_any_of_its_classes(painted):
    image = np.zeros((64, 64, 3), np.uint8)
    image[: painted[0], : painted[1]] = 200, 30, 200
    with pytest.raises(ValueError, match=rf"must be a map in the colours .* IMG_A .*: {CLASSES}: repaint"):
        read_map(image, MapSettings(OWN, trained=True))
    assert read_map(image, MapSettings(OWN))[1].unclear, "preparation warns of them"
    image[20:40] = 0, 90, 0
    assert read_map(image, MapSettings(OWN, trained=True))[1].unclear
    image[:] = 0
    image[0, 0] = 200, 30, 200
    assert read_map(image, MapSettings(OWN, trained=True))[1].unclear


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((0, 7, 9), r"\[7, 9\], .* 0 \(void\) to 3 \(water, forest, field\), which are the model's classes"),
        ((0, 128, 255), rf"holds 0, 128 and 255, which are not class colours: {CLASSES}: repaint"),
    ],
)
def test_greyscale_maps_of_other_classes_than_a_trained_models_name_its_classes(values, problem):
    with pytest.raises(ValueError, match=problem) as error:
        read_map(grey_image(*values), MapSettings(OWN, trained=True))
    assert "palette.yaml" not in str(error.value)


def test_a_palette_image_of_other_classes_than_a_trained_models_names_its_classes(tmp_path):
    path = stored(tmp_path / "a.png", palette_image([VOID, TREE, (200, 30, 200)], [0, 1, 2]))
    with pytest.raises(ValueError, match=rf"save the indices as a greyscale image, or {CLASSES}: repaint"):
        read_map(path, MapSettings(OWN, trained=True))


def test_palette_image_of_a_grey_ramp_holds_class_indices(tmp_path):
    ramp = [(value,) * 3 for value in range(256)]
    assert colours_of(stored(tmp_path / "a.png", palette_image(ramp, [0, 4, 2]))) == [
        VOID, WATER, SECOND.colours[1]
    ]  # fmt: skip


@pytest.mark.parametrize("background", [VOID, (255, 0, 0), (7, 99, 200)])
def test_transparent_pixels_are_void(tmp_path, background):
    image = Image.fromarray(picture(background, BUILDING, WATER)).convert("RGBA")
    image.putalpha(grey_image(0, 255, 128))
    colours, facts = read_map(stored(tmp_path / "a.png", image))
    assert colours[0].tolist() == [list(VOID), list(BUILDING), list(WATER)]
    assert facts == MapFacts("RGBA", translucent=1 / 3)


def test_transparent_index_of_a_palette_image_is_void(tmp_path):
    path = stored(tmp_path / "a.png", palette_image([(255, 0, 0), BUILDING], [0, 1, 0]), transparency=0)
    assert colours_of(path) == [VOID, BUILDING, VOID]


def test_transparent_greyscale_holds_class_indices(tmp_path):
    image = Image.merge("LA", [grey_image(9, 3, 2), grey_image(0, 255, 255)])
    assert colours_of(stored(tmp_path / "a.png", image)) == [VOID, TREE, SECOND.colours[1]]


@pytest.mark.parametrize("palette", [SECOND, OWN], ids=["SECOND", "own"])
@pytest.mark.parametrize("quality", [95, 75, 50])
def test_jpeg_maps_keep_their_classes(palette, quality):
    truth = scene(palette)
    colours, facts = read_map(as_jpeg(truth, quality), MapSettings(palette))
    wrong = palette.map_classes(colours.transpose(2, 0, 1)) != palette.map_classes(truth.transpose(2, 0, 1))
    assert facts.kind == "JPEG"
    assert wrong.mean() < 0.1
    assert wrong.mean() <= facts.unclear + 0.01
    assert facts.near > 0.1
    assert not facts.foreign


def test_smoothly_resized_maps_keep_their_classes():
    small = Image.fromarray(scene()).resize((32, 32), Image.Resampling.BILINEAR)
    colours, facts = read_map(small)
    truth = np.asarray(Image.fromarray(scene()).resize((32, 32), Image.Resampling.NEAREST))
    wrong = SECOND.map_classes(colours.transpose(2, 0, 1)) != SECOND.map_classes(truth.transpose(2, 0, 1))
    assert wrong.mean() < 0.08
    assert not facts.foreign


def test_near_colours_are_the_closest_class_and_counted():
    image = np.repeat(picture(BUILDING, (120, 10, 5), (200, 30, 200), VOID, WATER, TREE), 4, axis=0)
    colours, facts = read_map(image)
    assert [tuple(pixel) for pixel in colours[0].tolist()] == [
        BUILDING, BUILDING, (200, 30, 200), VOID, WATER, TREE
    ]  # fmt: skip
    assert facts == MapFacts("RGB", near=1 / 6, unclear=1 / 6)


@pytest.mark.parametrize("palette", [SECOND, OWN], ids=["SECOND", "own"])
def test_photos_are_no_maps(palette):
    noise = np.random.default_rng(0).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    colours, facts = read_map(noise, MapSettings(palette))
    assert facts.foreign
    assert facts.unclear > 0.9
    assert (colours == noise).mean() > 0.99, "its colours are kept"


def test_greyscale_photo_is_neither_mask_nor_class_indices():
    assert read_map(grey(*range(256)))[1].foreign
    many = Palette(tuple(map(str, range(254))), tuple((index, 0, 255 - index) for index in range(254)))
    noise = np.random.default_rng(0).integers(0, 200, (64, 64), dtype=np.uint8)
    assert read_map(Image.fromarray(noise), MapSettings(many))[1].kind == "L"
    flat = np.sort(noise.flatten()).reshape(64, 64)
    assert read_map(Image.fromarray(flat), MapSettings(many))[1].kind == "class indices"


def maps_of(folder: Path, *rows: tuple[int, ...]) -> list[Path]:
    return [stored(folder / f"{number}.png", grey_image(*row)) for number, row in enumerate(rows)]


def test_one_map_tells_that_a_data_set_holds_class_indices(tmp_path):
    paths = maps_of(tmp_path, (0, 0), (0, 1), (0, 3))
    assert settings_of(paths, MapSettings()) == MapSettings(map_indices=True)
    assert settings_of(paths[:2], MapSettings()) == MapSettings()
    with pytest.raises(
        ValueError, match=r"2.png holds the class indices \[0, 3\], not a mask: leave --mask_class"
    ):
        settings_of(paths, MapSettings(mask_class="water"))


def test_maps_with_three_equal_channels_tell_it_too(tmp_path):
    paths = [
        stored(tmp_path / f"{number}.png", Image.fromarray(grey(*values)))
        for number, values in enumerate([(0, 1), (0, 2)])
    ]
    assert settings_of(paths, MapSettings()) == MapSettings(map_indices=True)


def test_class_indices_that_are_also_greys_of_the_palette_are_indices(tmp_path):
    names = tuple(map(str, range(200)))
    palette = Palette(names, ((128, 128, 128), *((index, 0, 0) for index in range(1, 200))))
    paths = maps_of(tmp_path, (0, 7), (0, 128))
    settings = settings_of(paths, MapSettings(palette))
    assert settings.map_indices
    assert colours_of(paths[1], palette=palette, map_indices=True) == [VOID, palette.colours[127]]
    assert colours_of(paths[1], palette=palette) == [VOID, (128, 128, 128)]


def test_masks_of_a_data_set_show_its_only_class(tmp_path):
    assert settings_of(maps_of(tmp_path, (0, 255)), MapSettings(ONE)).mask_class == "flooded"
    assert settings_of(maps_of(tmp_path, (0, 1)), MapSettings(ONE)).mask_class == "flooded"
    colours = stored(tmp_path / "colours.png", Image.fromarray(picture(WATER, VOID)))
    assert settings_of([colours, tmp_path / "missing.png"], MapSettings(ONE)) == MapSettings(ONE)


def test_mask_class_must_be_in_the_palette():
    with pytest.raises(ValueError, match="of the palette, got 'building': choose from water, forest, field"):
        MapSettings(OWN, "building")


def test_settings_are_stored():
    settings = MapSettings(OWN, "forest", map_indices=True, mask_unchanged=True)
    assert MapSettings.stored(settings.to_dict()) == settings
    assert MapSettings.stored({"mask_class": "water"}) == MapSettings(mask_class="water"), "earlier versions"


@pytest.mark.parametrize("road", [(0, 0, 255), (255, 255, 0)], ids=["blue", "yellow"])
@pytest.mark.parametrize("building", [(255, 0, 0), BUILDING], ids=["red", "dark red"])
def test_label_in_colours_is_painted_in_the_palette(tmp_path, road, building):
    path = stored(tmp_path / "a.png", Image.fromarray(picture(VOID, road, building)))
    colours, facts = read_label(path)
    assert colours.tolist() == picture(VOID, (128,) * 3, BUILDING).tolist()
    assert facts.kind == "LEVIR-MCI's label_rgb"


def test_labels_of_an_own_palette_are_maps(tmp_path):
    path = stored(tmp_path / "a.png", grey_image(0, 2, 3))
    assert read_label(path, MapSettings(OWN))[0].tolist() == picture(VOID, *OWN.colours[1:]).tolist()


def test_land_cover_maps_are_masked_by_their_difference(tmp_path):
    image = stored(tmp_path / "image.png", Image.fromarray(COLOURS[:1, :3]))
    before = stored(tmp_path / "before.png", Image.fromarray(picture(WATER, TREE, BUILDING)))
    after = stored(tmp_path / "after.png", Image.fromarray(picture(WATER, BUILDING, BUILDING)))
    paths = (image, image, before, after)
    assert read_pair(paths).views[2].any(axis=-1).all()
    masked = read_pair(paths, settings=MapSettings(mask_unchanged=True)).views
    assert masked[2].tolist() == picture(VOID, TREE, VOID).tolist()
    assert masked[3].tolist() == picture(VOID, BUILDING, VOID).tolist()


def test_masks_at_both_dates_are_read_if_the_palette_has_one_class(tmp_path):
    image = stored(tmp_path / "image.png", Image.fromarray(COLOURS[:1, :2]))
    mask = stored(tmp_path / "mask.png", grey_image(0, 255))
    views = read_views((image, image, mask, mask), settings=MapSettings(ONE, "flooded"))
    assert views[2].tolist() == views[3].tolist() == picture(VOID, WATER).tolist()


def test_label_values_are_painted():
    assert colour_label(np.array([[0, 128, 255]], dtype=np.uint8)).tolist() == [
        [[0, 0, 0], [128, 128, 128], [128, 0, 0]]
    ]


def test_label_with_another_value_is_refused():
    with pytest.raises(
        ValueError, match=r"0 \(background\), 128 \(road\) and 255 \(building\), got \[1, 2\]"
    ):
        colour_label(np.array([[0, 1, 2, 255]], dtype=np.uint8))


def test_a_label_is_painted_in_the_palette(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8)))
    assert read_label(path)[0].tolist() == [[[0, 0, 0], [128, 128, 128], [128, 0, 0]]]


def test_a_label_with_other_values_or_colours_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: a label must hold only 0"):
        read_label(stored(tmp_path / "a.png", Image.fromarray(np.array([[0, 7]], dtype=np.uint8))))
    with pytest.raises(
        ValueError,
        match=r"a\.png: a label in colours must be black, blue or yellow for roads and red .*: use label/",
    ):
        read_label(stored(tmp_path / "a.png", Image.fromarray(COLOURS)))


def test_mask_is_refused_at_the_first_date(tmp_path):
    image = stored(tmp_path / "image.png", Image.fromarray(COLOURS))
    white = stored(tmp_path / "white.png", Image.fromarray(np.full((9, 7), 255, np.uint8)))
    mask = stored(tmp_path / "mask.png", Image.fromarray(np.uint8(GREY > 128) * 255))
    bits = stored(tmp_path / "bits.png", Image.fromarray(GREY > 128))
    with pytest.raises(ValueError, match=r"mask\.png is a mask of 0 and 255, .*--mask_class"):
        read_views((image, image, None, mask))
    for path in (mask, bits):
        views = read_views((image, image, white, path), settings=MapSettings(mask_class="tree"))
        assert not views[2].any()
        assert (views[3][..., 1] == np.uint8(GREY > 128) * 255).all()
        assert not views[3][..., [0, 2]].any()
    with pytest.raises(
        ValueError, match=r"mask\.png is a mask, but only the second date .*: leave out .*, or give a palette"
    ):
        read_views((image, image, mask, mask), settings=MapSettings(mask_class="tree"))


def test_label_that_is_a_mask_is_painted_as_the_given_class(tmp_path):
    path = stored(tmp_path / "a.png", Image.fromarray(np.array([[0, 255]], dtype=np.uint8)))
    assert read_label(path)[0].tolist() == [[[0, 0, 0], [128, 0, 0]]], "LEVIR-MCI's building"
    assert read_label(path, MapSettings(mask_class="water"))[0].tolist() == [[[0, 0, 0], [0, 0, 255]]]
    whu = stored(tmp_path / "b.png", Image.fromarray(np.array([[0, 1]], dtype=np.uint8)))
    assert read_label(whu, MapSettings(mask_class="building"))[0].tolist() == [[[0, 0, 0], [128, 0, 0]]]
    levir = stored(tmp_path / "c.png", Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8)))
    assert read_label(levir, MapSettings(mask_class="water"))[0].tolist() == read_label(levir)[0].tolist()


def test_missing_maps_are_void(tmp_path):
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


@pytest.mark.real
def test_real_photos_are_no_maps_and_real_maps_survive_jpeg(real_data):
    for path in (real_data / "second_pair").glob("rgb/*/*.png"):
        assert read_map(path)[1].foreign, path
    for path in (real_data / "second_pair").glob("sem/*/*.png"):
        truth = np.asarray(Image.open(path).convert("RGB"))
        exact = SECOND.map_classes(read_map(path)[0].transpose(2, 0, 1))
        lossy, facts = read_map(as_jpeg(truth, quality=50))
        assert (SECOND.map_classes(lossy.transpose(2, 0, 1)) != exact).mean() < 0.1, path
        assert not facts.foreign, path
