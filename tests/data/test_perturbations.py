"""The effect of perturbations in stops, pixels, counts and classes."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as tv

from data.palette import SECOND, VOID, MapClasses, Palette, classes_by_date, unknown_colours
from data.perturbations import MAPS, PERTURBATIONS, SEVERITIES, photometric
from data.perturbations.apply import perturb
from data.perturbations.geometric import corners_of, move
from data.perturbations.map_noise import _largest_near, connected
from data.perturbations.photometric import to_linear, to_srgb

SIDE = 48
ALL = MapClasses(*(tuple(range(1, 7)),) * 2)  # the classes of both dates
GEOMETRIC = ("viewpoint", "registration")
IMAGES = [name for name, kind in PERTURBATIONS.items() if kind.group != MAPS]
OF_MAPS = [name for name in PERTURBATIONS if name not in IMAGES]
BUILDING, TREE, BRIGHT_WATER = (128, 0, 0), (0, 255, 0), (80, 80, 255)


def level(name: str, severity: int):
    return PERTURBATIONS[name].levels[severity - 1]


def alter(views: np.ndarray, name: str, severity: int, *, seed, classes=ALL) -> np.ndarray:
    return perturb(views, name, severity, seed=seed, classes=classes)


def scene() -> np.ndarray:
    """Views (4, 3, SIDE, SIDE) of two equal dates, waves with grain; both maps have two changed areas."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = [np.sin(rows / 3), np.cos(columns / 4), np.sin((rows + columns) / 5)]
    grain = np.random.default_rng(0).normal(0, 12, (3, SIDE, SIDE))
    views = np.zeros((4, 3, SIDE, SIDE), dtype=np.uint8)
    views[:2] = np.clip(120 + 60 * np.stack(waves) + grain, 0, 255)
    paint(views[2], slice(4, 20), slice(4, 20), TREE)
    paint(views[3], slice(4, 20), slice(4, 20), BUILDING)
    paint(views[2:], slice(30, 44), slice(20, 40), BRIGHT_WATER)
    return views


def paint(semantic: np.ndarray, rows: slice, columns: slice, colour: tuple[int, int, int]) -> None:
    semantic[..., rows, columns] = np.array(colour, dtype=np.uint8)[:, None, None]


def flat(value: int | tuple[int, int, int]) -> np.ndarray:
    """Four views in one colour."""
    colour = np.broadcast_to(np.array(value, dtype=np.uint8), 3)
    return np.tile(colour[:, None, None], (4, 1, SIDE, SIDE))


def perturbed_date(name: str, views: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """The image (3, H, W) that a perturbation changed."""
    perturbed = alter(views, name, severity, seed=seed)
    (date,) = [date for date in range(2) if (perturbed[date] != views[date]).any()]
    return perturbed[date]


def unknown_pixels(semantic: np.ndarray) -> dict:
    return unknown_colours(semantic.transpose(1, 2, 0), SECOND)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_perturbation_alters_only_its_views(name):
    views = scene()
    assert (alter(views, name, 0, seed=1) == views).all()
    for severity in SEVERITIES:
        perturbed = alter(views, name, severity, seed=severity)
        assert (perturbed.shape, perturbed.dtype) == (views.shape, np.uint8)
        assert (views == scene()).all()
        assert not unknown_pixels(perturbed[2])
        assert not unknown_pixels(perturbed[3])
        changed = {index for index in range(4) if (perturbed[index] != views[index]).any()}
        if name in GEOMETRIC:
            assert changed in ({0}, {1}, {0, 2}, {1, 3})  # a map may not feel half a pixel
        else:
            assert changed in (({2, 3}, {2}, {3}, set()) if name in OF_MAPS else ({0}, {1}))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_result_depends_on_the_seed_and_grows_with_severity(name):
    """Strictly for images; map noise with a share grows in steps of whole areas."""
    views = scene()
    assert (alter(views, name, 3, seed=(4, 2)) == alter(views, name, 3, seed=(4, 2))).all()
    assert len({alter(views, name, 3, seed=seed).tobytes() for seed in range(8)}) > 1
    differences = []
    for severity in SEVERITIES:
        perturbed = np.stack([alter(views, name, severity, seed=seed) for seed in range(6)])
        differences.append(np.abs(perturbed.astype(int) - views).mean())
    grows = np.diff(differences) > 0 if name in IMAGES else np.diff(differences) >= 0
    assert grows.all(), differences
    assert differences[-1] > 0


def test_linear_light_follows_srgb():
    every = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    light = to_linear(every)
    assert light[0, 0, [0, 10, 188, 255]].tolist() == pytest.approx([0, 10 / 255 / 12.92, 0.5, 1], abs=3e-3)
    assert (to_srgb(light) == every).all()


def test_a_stop_of_brightness_doubles_linear_light():
    views, severity = flat((20, 60, 100)), 1 + PERTURBATIONS["brightness"].levels.index(1.0)
    before = to_linear(torch.from_numpy(views[0]))
    ratios = set()
    for seed in range(8):
        after = to_linear(torch.from_numpy(perturbed_date("brightness", views, severity, seed)))
        ratio = (after / before).mean().item()
        assert ratio == pytest.approx(2 if ratio > 1 else 0.5, rel=0.03)
        ratios.add(round(ratio))
    assert ratios == {0, 2}  # half of the light, twice the light


def test_colour_cast_moves_red_against_blue_by_its_stops():
    views = flat(120)
    light = to_linear(torch.from_numpy(perturbed_date("colour_cast", views, 3, seed=0)))[:, 0, 0]
    assert abs(torch.log2(light[0] / light[2]).item()) == pytest.approx(level("colour_cast", 3), abs=0.03)
    assert light[1].item() == pytest.approx(to_linear(torch.tensor(120)).item())


def test_contrast_gamma_and_haze_follow_their_formulas():
    views = scene()
    factor = np.std(perturbed_date("contrast", views, 2, seed=0)) / np.std(views[:2])
    assert max(factor, 1 / factor) == pytest.approx(level("contrast", 2), rel=0.02)
    exponent = np.log(perturbed_date("gamma", flat(100), 3, seed=0)[0, 0, 0] / 255) / np.log(100 / 255)
    assert max(exponent, 1 / exponent) == pytest.approx(level("gamma", 3), rel=0.02)
    light, dark = (to_linear(torch.from_numpy(perturbed_date("haze", flat(v), 4, seed=0))) for v in (200, 20))
    clear = to_linear(torch.tensor(200)) - to_linear(torch.tensor(20))
    assert ((light - dark) / clear).mean().item() == pytest.approx(1 - level("haze", 4), abs=0.02)


def spread(image: np.ndarray) -> tuple[float, float]:
    """Standard deviation of the light of a spot along its widest and narrowest direction, in pixels."""
    weights = image[0].astype(float)
    positions = np.argwhere(weights > 0)
    covariance = np.cov(positions.T, fweights=weights[weights > 0].astype(int))
    return tuple(np.sqrt(np.linalg.eigvalsh(covariance)[::-1]))


def spot() -> np.ndarray:
    views = flat(0)
    views[:2, :, 22:26, 22:26] = 255
    return views


def test_blurs_spread_a_spot_by_their_width():
    width = spread(spot()[0])[0] ** 2
    wide, narrow = spread(perturbed_date("gaussian_blur", spot(), 4, seed=0))
    assert wide == pytest.approx(np.sqrt(width + level("gaussian_blur", 4) ** 2), rel=0.05)
    assert wide == pytest.approx(narrow, rel=0.02)
    wide, narrow = spread(perturbed_date("motion_blur", spot(), 5, seed=0))
    assert wide == pytest.approx(np.sqrt(width + level("motion_blur", 5) ** 2 / 12), rel=0.07)
    assert narrow < 1.1 * np.sqrt(width) + 0.2


def test_resolution_removes_details_finer_than_its_pixels():
    views = flat(0)
    views[:2, :, ::2] = 200  # lines one pixel wide
    perturbed = perturbed_date("resolution", views, 5, seed=0)
    assert np.abs(perturbed[:, 8:-8].astype(int) - 100).max() <= 10
    views[:2] = flat(0)[:2]
    views[:2, :, :24] = 200  # halves
    perturbed = perturbed_date("resolution", views, 5, seed=0)
    assert (perturbed[:, :16] == 200).all()
    assert (perturbed[:, 32:] == 0).all()


def test_noise_has_its_sigma():
    perturbed = perturbed_date("noise", flat(128), 2, seed=0)
    assert perturbed.std() == pytest.approx(level("noise", 2), rel=0.05)
    assert perturbed.mean() == pytest.approx(128, abs=0.5)


def test_jpeg_shows_its_blocks_of_eight():
    perturbed = perturbed_date("jpeg", scene(), 5, seed=0).astype(int)
    steps = np.abs(np.diff(perturbed)).mean(axis=(0, 1))  # from each column to the next
    between = steps[7::8].mean()
    assert between > 1.3 * np.delete(steps, np.s_[7::8]).mean()


def marked() -> tuple[torch.Tensor, torch.Tensor]:
    """An image and a map with one marked pixel at row 20, column 30."""
    image, semantic = torch.full((3, SIDE, SIDE), 90, dtype=torch.uint8), torch.zeros(3, SIDE, SIDE).byte()
    image[:, 20, 30], semantic[:, 20, 30] = 250, torch.tensor(BUILDING).byte()
    return image, semantic


@pytest.mark.parametrize(("x", "y"), [(2, 0), (0, -2), (-2, 2)])
def test_a_shift_of_two_pixels_moves_a_marked_pixel_two_pixels(x, y):
    image, semantic = marked()
    moved, moved_map = move(image, semantic, corners_of(image) + np.array([x, y]))
    assert moved[:, 20 + y, 30 + x].tolist() == [250] * 3
    assert moved_map[:, 20 + y, 30 + x].tolist() == list(BUILDING)
    assert (moved == 90).sum() == image.numel() - 3  # and no edge shows
    assert moved_map.any(0).sum() == 1


def test_borders_are_mirrored_in_images_and_void_in_maps():
    image = torch.arange(SIDE).expand(3, SIDE, SIDE).byte()  # columns count up
    moved, moved_map = move(image, torch.full_like(image, 128), corners_of(image) + np.array([3, 0]))
    assert moved[0, 0, :6].tolist() == [3, 2, 1, 0, 1, 2]
    assert moved_map[0, 0, :6].tolist() == [0, 0, 0, 128, 128, 128]


def test_registration_and_viewpoint_move_by_their_pixels():
    views = spot()
    for name, most in (("registration", level("registration", 4)[0]), ("viewpoint", 0.035 * SIDE + 1)):
        for seed in range(5):
            perturbed = perturbed_date(name, views, 4, seed)
            rows, columns = np.nonzero(perturbed[0])
            weights = perturbed[0][rows, columns]
            centre = np.average(np.stack([rows, columns]), axis=1, weights=weights)
            distance = np.linalg.norm(centre - 23.5)
            assert distance == pytest.approx(most, abs=0.1) if name == "registration" else distance < most


def test_regions_are_connected_over_sides_and_numbered_by_their_first_pixel():
    values = np.array([[1, 1, 2, 1], [2, 1, 1, 1], [2, 2, 1, 2], [1, 2, 2, 2]])
    assert connected(values).tolist() == [[1, 1, 2, 1], [3, 1, 1, 1], [3, 3, 1, 3], [4, 3, 3, 3]]
    assert connected(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    snake = np.full((31, 31), 2)
    snake[::2] = 1
    snake[1::4, -1] = snake[3::4, 0] = 1
    assert len(np.unique(connected(snake)[snake == 1])) == 1
    assert len(np.unique(connected(snake)[snake == 2])) == 15


def classes_of(semantic: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in semantic.reshape(3, -1).T.tolist()}


def test_confused_regions_keep_their_outline_and_change_their_class():
    views = scene()
    perturbed = alter(views, "map_confusion", 5, seed=3)
    assert (perturbed[2:].any(1) == views[2:].any(1)).all()
    assert not classes_of(perturbed[3]) & {BUILDING, BRIGHT_WATER}
    assert len(classes_of(perturbed[3])) == 3
    assert perturbed[2:, :, 35, 30].min() == 80  # brightened stays brightened


def test_borders_move_by_their_pixels():
    views = flat(0)
    paint(views[2:], slice(20, 30), slice(20, 30), BUILDING)
    sides = {alter(views, "map_borders", 2, seed=seed)[3].any(0).sum() for seed in range(8)}
    assert sides == {(10 - 2 * 2) ** 2, (10 + 2 * 2) ** 2}


def test_missing_and_invented_areas_are_the_same_in_both_maps():
    views = scene()
    assert not alter(views, "map_missing", 5, seed=0)[2:].any()
    for seed in range(6):
        perturbed = alter(views, "map_missing", 3, seed=seed)
        kept = perturbed[2].any(0)
        assert (kept == perturbed[3].any(0)).all()
        assert kept.sum() in (0, 16 * 16, 14 * 20, 16 * 16 + 14 * 20)
    perturbed = alter(flat(0), "map_invented", 1, seed=0)
    area = perturbed[2].any(0)
    assert 0 < area.sum() < SIDE**2 / 10
    assert (area == perturbed[3].any(0)).all()
    assert not (perturbed[2] == perturbed[3])[:, area].all(0).any()  # another class at each date


def colours_under(name: str, classes) -> list[set[tuple[int, ...]]]:
    """By date, the colours of maps under 20 draws of a perturbation, without void."""
    colours = [set(), set()]
    for seed in range(20):
        altered = alter(scene(), name, 5, seed=seed, classes=MapClasses(*classes))
        for date in range(2):
            colours[date] |= classes_of(altered[2 + date])
    return [width - {(0, 0, 0)} for width in colours]


def test_map_errors_paint_only_classes_of_their_date():
    water, building, ground, tree = 4, 5, 2, 3
    before, after = colours_under("map_invented", ((), (building,)))
    assert before == classes_of(scene()[2]) - {(0, 0, 0)}  # no area is invented at a date without classes
    assert after == classes_of(scene()[3]) - {(0, 0, 0)} | {BUILDING}
    before, after = colours_under("map_invented", ((ground,), (ground, building)))
    assert (128, 128, 128) in before - after  # another class at the second date
    before, after = colours_under("map_confusion", ((tree, water), (building,)))
    assert before == {(0, 0, 255), (80, 255, 80)}  # each taken for the other, as bright as it was
    assert after == {BUILDING, (208, 80, 80)}  # the area of water has become a building
    untouched = scene()
    untouched[2] = untouched[3, :, :30] = 0
    untouched[3][:, untouched[3].any(0)] = np.array(BUILDING, dtype=np.uint8)[:, None]
    assert (
        alter(untouched, "map_confusion", 5, seed=0, classes=MapClasses((), (building,))) == untouched
    ).all()
    assert (alter(flat(0), "map_invented", 5, seed=0, classes=MapClasses()) == 0).all()


def test_map_errors_paint_the_classes_of_an_own_palette():
    palette = Palette(("a", "b", "c"), ((10, 20, 30), (200, 30, 200), (7, 99, 200)))
    views = flat(0)
    views[2, :, 8:20, 8:20] = np.array(palette.colours[0]).reshape(3, 1, 1)
    own = MapClasses((1, 3), (2,), palette)
    confused = alter(views, "map_confusion", 5, seed=0, classes=own)
    assert classes_of(confused[2]) == {VOID, palette.colours[2]}
    invented = alter(views, "map_invented", 5, seed=0, classes=own)
    assert classes_of(invented[3]) == {VOID, palette.colours[1]}
    assert classes_of(invented[2]) <= {VOID, *palette.colours} - {palette.colours[1]}


def test_classes_are_counted_for_each_date():
    maps = [scene()[2:], flat(0)[2:]]
    assert classes_by_date(maps) == MapClasses((3, 4), (4, 5))
    assert classes_by_date([flat(0)[2:]]) == MapClasses()
    maps[1][0] = np.array(BUILDING)[:, None, None]
    assert classes_by_date(maps) == MapClasses((3, 4, 5), (4, 5))


def test_maps_are_void_for_their_share_of_the_pairs():
    void = [not alter(scene(), "map_void", 2, seed=(1, pair))[2:].any() for pair in range(200)]
    assert np.mean(void) == pytest.approx(level("map_void", 2), abs=0.1)


class PerturbedCopies(torch.utils.data.Dataset):
    """A dataset of a pair under every perturbation."""

    def __len__(self) -> int:
        return len(PERTURBATIONS)

    def __getitem__(self, index: int) -> np.ndarray:
        return alter(scene(), list(PERTURBATIONS)[index], 3, seed=(5, index))


def test_perturbations_are_the_same_in_workers():
    alone, shared = (torch.cat(list(DataLoader(PerturbedCopies(), num_workers=n))) for n in (0, 2))
    assert torch.equal(alone, shared)


class Fixed:
    """A random generator that always returns `value`."""

    def __init__(self, value):
        self.value = value

    def choice(self, _):
        return self.value


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["brightness", "gamma", "colour_cast", "haze"])
def test_lookup_table_equals_pixelwise_computation(name, sign):
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 37, 61), dtype=np.uint8))
    light, airlight = photometric.to_linear(image), torch.tensor(photometric.AIRLIGHT).view(3, 1, 1)
    for level in PERTURBATIONS[name].levels:
        half = sign * level / 2
        expected = {
            "brightness": lambda level=level: photometric.to_srgb(light * 2 ** (sign * level)),
            "gamma": lambda level=level: tv.adjust_gamma(image, level**sign),
            "colour_cast": lambda half=half: photometric.to_srgb(
                light * (2 ** torch.tensor([half, 0, -half])).view(3, 1, 1)
            ),
            "haze": lambda level=level: photometric.to_srgb(light * (1 - level) + airlight * level),
        }[name]()
        assert torch.equal(getattr(photometric, name)(image, level, Fixed(sign)), expected)


@pytest.mark.parametrize("pixels", [1, 2, 5, 30])
def test_maximum_filter_equals_maximum_over_windows(pixels):
    values = np.random.default_rng(2).integers(0, 1000, (2, 23, 31))
    padded = np.pad(values, [(0, 0), (pixels, pixels), (pixels, pixels)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1,) * 2, axis=(1, 2))
    np.testing.assert_array_equal(_largest_near(values, pixels), windows.max(axis=(-2, -1)))
