"""A data set with classes of its own, from its files to the report, and what fits no other data."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caption
import eval as evaluation
import train
from data.hdf5 import SplitReader
from data.palette import SECOND, Palette
from tests.conftest import CONFIGS, save
from tests.helpers.tiny import tiny_settings
from tools import create_input_files, detect_maps, make_report
from tools.engine.checkpoint import load_checkpoint, restore_detector

pytestmark = pytest.mark.integration

OWN = Palette(("water", "forest", "field"), ((0, 0, 255), (0, 90, 0), (230, 200, 40)), ((9, 9, 9),))
YAML = "classes: {water: [0, 0, 255], forest: [0, 90, 0], field: [230, 200, 40]}\nvoid: [[9, 9, 9]]\n"


def paint(root: Path, palette: Palette, void: tuple[int, int, int], everywhere: bool = False) -> None:
    """Repaint all maps: class 1 becomes class 3 in a rectangle; everywhere: on a ground of class 2."""
    for path in root.glob("*/sem/*/*.png"):
        classes = np.full((32, 32), 2 if everywhere else 0)
        if path.parent.name == "B":
            classes[8:20, 8:20] = 3
        elif not everywhere:
            classes[8:20, 8:20] = 1
        colours = palette.paint(classes).transpose(1, 2, 0).copy()
        colours[~colours.any(-1)] = void
        save(path, colours)


@pytest.fixture
def own_folder(second_cc_folder: Callable[..., Path]) -> Path:
    """The usual folder with maps of three classes of its own on a void of (9, 9, 9)."""
    root = second_cc_folder(size=32, name="own")
    (root / "palette.yaml").write_text(YAML)
    paint(root, OWN, (9, 9, 9))
    return root


def prepare(root: Path, name: str, *options: str) -> Path:
    output = root.parent / name
    fixed = ["--dataset_dir", str(root), "--output_dir", str(output), "--workers", "1", "--image_size", "32"]
    create_input_files.main([*fixed, "--min_word_freq", "0", *options])
    return output


def run_training(folder: Path, run: Path, config: str = "second_cc", **changes) -> Path:
    model = "change_detector" if config == "change_detector" else "mmodalcc"
    settings = tiny_settings(folder, model, **{"train.epochs": 1, **changes})
    train.main(["--config", str(CONFIGS / f"{config}.yaml"), *settings, "--run_dir", str(run)])
    return run / "best.pt"


def detector_run(folder: Path, run: Path, **changes) -> Path:
    settings = {"train.select_on": "f_scd", "train.captions_per_step": "one", "model.width": 8, **changes}
    return run_training(folder, run, "change_detector", **settings)


def colours(views: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.moveaxis(views, -3, -1).reshape(-1, 3).tolist()}


def test_preparation_reads_and_prints_the_palette(own_folder, capsys):
    reader = SplitReader(prepare(own_folder, "created") / "train.hdf5")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (
        f"palette: {own_folder / 'palette.yaml'}: 1 water (0, 0, 255), 2 forest (0, 90, 0), "
        "3 field (230, 200, 40); void: (9, 9, 9)"
    ) in lines
    assert "maps by kind: RGB: 12" in lines
    assert "map colours" not in err
    assert reader.maps.palette == OWN
    assert colours(reader.views(0)[2]) == {(0, 0, 0), (0, 0, 255)}
    assert colours(reader.views(0)[3]) == {(0, 0, 0), (230, 200, 40)}


def test_second_is_named_as_the_palette_without_a_file(second_cc_folder, capsys):
    prepare(second_cc_folder(), "created")
    assert "palette: SECOND, as there is no palette.yaml: 1 low vegetation (0" in capsys.readouterr().out


def test_maps_of_class_indices_are_prepared_as_their_classes(own_folder, capsys):
    expected = SplitReader(prepare(own_folder, "colours") / "train.hdf5").views(0)
    for path in own_folder.glob("*/sem/*/*.png"):
        classes = np.zeros((32, 32), np.uint8)
        classes[8:20, 8:20] = 3 if path.parent.name == "B" else 1
        save(path, classes)
    reader = SplitReader(prepare(own_folder, "indices") / "train.hdf5")
    np.testing.assert_array_equal(reader.views(0), expected)
    assert reader.maps.map_indices
    lines = capsys.readouterr().out.splitlines()
    assert "greyscale maps hold class indices: 0 and 255 void, 1 water, 2 forest, 3 field" in lines
    assert "maps by kind: class indices: 12" in lines


@pytest.mark.parametrize("road", [(0, 0, 255), (255, 255, 0)], ids=["blue", "yellow"])
def test_labels_in_colours_are_prepared_as_second_dates_maps(second_cc_folder, road, capsys):
    root = second_cc_folder(size=32, with_maps=False)
    for split in ("train", "val", "test"):
        (root / "images").mkdir(exist_ok=True)
        (root / split / "rgb").rename(root / "images" / split)
        for path in list((root / "images" / split / "A").iterdir()):
            label = np.zeros((32, 32, 3), np.uint8)
            label[:8], label[20:] = road, (255, 0, 0)
            save(root / "images" / split / "label_rgb" / path.name, label)
    views = SplitReader(prepare(root, "created") / "train.hdf5").views(0)
    assert "maps by kind: LEVIR-MCI's label_rgb: 6" in capsys.readouterr().out
    assert colours(views[2]) == {(0, 0, 0)}
    assert SECOND.map_classes(views[3])[[0, 15, 25], 0].tolist() == [2, 0, 5]


def test_the_authors_files_hold_no_other_palette(own_folder):
    with pytest.raises(
        ValueError, match="authors' files store no palette .*, this data set has water, forest"
    ):
        prepare(own_folder, "created", "--format", "released")


def test_photos_as_maps_are_warned_of(own_folder, capsys):
    photo = np.random.default_rng(0).integers(60, 200, (32, 32, 3), dtype=np.uint8)
    photo[:3, :3] = OWN.colours[0]
    save(own_folder / "train/sem/B/00001.png", photo)
    prepare(own_folder, "created")
    assert re.search(
        r"pairs with a map of which more than 25% has colours of no class, a photo .*: 1 "
        r"\(train 00001.png\): check the files, or add their colours to .*own/palette.yaml, as classes or "
        "under `void`",
        capsys.readouterr().err,
    )


def test_a_colour_that_the_palette_lacks_is_to_be_added_to_its_file(own_folder, capsys):
    image = np.full((32, 32, 3), 9, np.uint8)
    image[:8] = 40, 160, 190
    save(own_folder / "train/sem/B/00001.png", image)
    prepare(own_folder, "created")
    remedy = f"add the colour (40, 160, 190) to {own_folder / 'palette.yaml'}, as classes or under `void`"
    err = capsys.readouterr().err
    assert f"pairs with a map in none of the classes' colours: 1 (train 00001.png): {remedy}\n" in err
    assert "map colours outside the palette: 1 ((40, 160, 190) files: 1, pixels: 256): the change" in err
    assert err.count(remedy) == 2


def test_maps_of_class_indices_among_colours_are_warned_of(own_folder, capsys):
    save(own_folder / "train/sem/B/00001.png", np.tile(np.uint8([0, 3]), (32, 16)))
    prepare(own_folder, "created")
    assert re.search(
        r"pairs with maps of class indices, while other maps are colours .*: 1 \(train 00001.png\): "
        "check these files, and save all maps in one way",
        capsys.readouterr().err,
    )


def test_land_cover_maps_are_warned_of_and_masked(own_folder, capsys):
    paint(own_folder, OWN, (9, 9, 9), everywhere=True)
    prepare(own_folder, "filled")
    assert re.search(
        "pairs whose maps show the same class at both dates in more than 10% .*: 6 \\(train "
        r"00001.png.*\): .* --mask_unchanged makes the rest void",
        capsys.readouterr().err,
    )
    reader = SplitReader(prepare(own_folder, "masked", "--mask_unchanged") / "train.hdf5")
    assert "pairs whose maps show the same class" not in capsys.readouterr().err
    assert reader.maps.mask_unchanged
    assert colours(reader.views(0)[2]) == {(0, 0, 0), (0, 90, 0)}
    assert colours(reader.views(0)[3]) == {(0, 0, 0), (230, 200, 40)}
    assert reader.views(0)[2, :, 8:20, 8:20].any(0).all()
    assert reader.views(0)[2].any(0).sum() == 144


@pytest.mark.slow
def test_own_classes_from_preparation_to_report(own_folder, second_cc_folder, tmp_path, capsys):
    paint(own_folder, OWN, (9, 9, 9), everywhere=True)
    folder = prepare(own_folder, "created", "--mask_unchanged")
    best = run_training(folder, tmp_path / "run")
    evaluation.main(["--checkpoint", str(best)])
    make_report.main([str(tmp_path / "run")])
    page = (tmp_path / "run" / "test" / "report.html").read_text(encoding="utf-8")
    for name, colour in zip(OWN.labels, ((0, 0, 0), *OWN.colours), strict=True):
        assert f'<i style="background: rgb{colour}"></i> {name}' in page
    assert "playground" not in page

    capsys.readouterr()
    test = own_folder / "test"
    files = [str(test / kind / date / "00005.png") for kind in ("rgb", "sem") for date in "AB"]
    caption.main([*files, "--checkpoint", str(best)])
    err = capsys.readouterr().err
    assert "no class" not in err, "the checkpoint's palette reads the maps"
    assert "both maps show the same class" not in err, "the maps are masked as in training"

    again = ["--checkpoint", str(best), "--output", str(tmp_path / "other")]
    other = prepare(second_cc_folder(size=32), "second")
    with pytest.raises(
        ValueError, match=r"has maps with other classes \(low vegetation, .*\) than the model was"
    ):
        evaluation.main([*again, "--data.dir", str(other)])
    plain = prepare(own_folder, "plain")
    with pytest.raises(ValueError, match="must have maps prepared with --mask_unchanged, as for the model's"):
        evaluation.main([*again, "--data.dir", str(plain)])
    evaluation.main([*again, "--data.dir", str(other), "--data.maps", "void"])


@pytest.mark.slow
def test_detector_learns_own_classes_and_starts_from_another_palette(
    own_folder, second_cc_folder, tmp_path, capsys
):
    folder = prepare(own_folder, "created")
    best = detector_run(folder, tmp_path / "own")
    detector = restore_detector(load_checkpoint(best))
    assert detector.palette == OWN
    evaluation.main(["--checkpoint", str(best)])
    detect_maps.main(["--checkpoint", str(best), "--data.dir", str(folder), "--data.workers", "0"])
    assert (folder / "test.detected.hdf5").is_file()

    other = prepare(second_cc_folder(size=32), "second")
    with pytest.raises(
        ValueError, match=r"other classes \(low vegetation, .* trained on \(water, forest, field\)"
    ):
        detect_maps.main(["--checkpoint", str(best), "--data.dir", str(other), "--data.workers", "0"])
    capsys.readouterr()
    second = detector_run(
        other, tmp_path / "second", **{"train.start_from": best, "train.learning_rate": 1e-9}
    )
    assert "also classes of the checkpoint: 1 of 6, which keep" in capsys.readouterr().err
    started = restore_detector(load_checkpoint(second)).decoder.semantic_head[-1].weight
    kept = detector.decoder.semantic_head[-1].weight
    assert len(started) == 7
    water = SECOND.labels.index("water"), OWN.labels.index("water")
    for row, of_checkpoint in ((0, 0), water):
        np.testing.assert_allclose(started[row].detach(), kept[of_checkpoint].detach(), atol=1e-5)

    captioner = run_training(other, tmp_path / "captioner")
    files = [str(own_folder / "test" / "rgb" / date / "00005.png") for date in "AB"]
    with pytest.raises(
        ValueError, match=r"must be trained on the classes of the captioning model \(low vegetation"
    ):
        caption.main([*files, "--checkpoint", str(captioner), "--detector", str(best)])
