"""Images under names in other case or with other endings, folders under other names, and missing ones."""

import json
from pathlib import Path

import pytest

from data.sources import Dataset, Pair, read_dataset
from tests.conftest import ENTRIES, entry


@pytest.fixture
def root(second_cc_folder) -> Path:
    return second_cc_folder()


def rename(root: Path, old: str, new: str) -> None:
    (root / old).rename(root / new)


def pair_named(dataset: Dataset, filename: str) -> Pair:
    return next(pair for pair in dataset.pairs if pair.filename == filename)


@pytest.mark.parametrize("name", ["00002.PNG", "00002.jpg", "00002.TIF"])
@pytest.mark.parametrize("folder", ["rgb/A", "sem/B"])
def test_images_with_another_ending_are_found(root, folder, name):
    rename(root, f"train/{folder}/00002.png", f"train/{folder}/{name}")
    dataset = read_dataset(root)
    assert root / "train" / folder / name in pair_named(dataset, "00002.png").views
    (warning,) = dataset.warnings
    assert warning.problem == "images found under another name than the data set gives: 1"
    assert warning.examples == [f"train/{folder}/{name} for 00002.png"]


@pytest.mark.parametrize("listed", ["00002", "00002.jpg", "00002.PNG"])
def test_names_without_or_with_another_ending_are_found(second_cc_folder, listed):
    root = second_cc_folder()
    content = json.loads((root / "SECOND-CC-AUG.json").read_text())
    content["images"][1]["filename"] = listed
    (root / "SECOND-CC-AUG.json").write_text(json.dumps(content))
    dataset = read_dataset(root)
    assert pair_named(dataset, listed).views[0] == root / "train/rgb/A/00002.png"
    assert "another name than the data set gives: 4 (" in dataset.warnings[0].line(with_examples=True)


def test_dots_in_names_are_no_endings(second_cc_folder):
    root = second_cc_folder(
        [entry("tile_1.5.png", "train", "a house"), entry("tile_1.6.png", "train", "a barn")]
    )
    content = json.loads((root / "SECOND-CC-AUG.json").read_text())
    content["images"][0]["filename"] = "tile_1.5"
    (root / "SECOND-CC-AUG.json").write_text(json.dumps(content))
    assert read_dataset(root).pairs[0].views[1] == root / "train/rgb/B/tile_1.5.png"


def test_an_ambiguous_name_is_not_guessed(root):
    for ending in ("jpg", "tif"):
        (root / f"train/rgb/A/00002.{ending}").touch()
    (root / "train/rgb/A/00002.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"00002\.png not found: .*rgb/A holds 00002\.jpg, 00002\.tif: "
    ):
        read_dataset(root)


def test_other_files_with_the_stem_of_an_image_are_not_images(root):
    rename(root, "train/rgb/A/00002.png", "train/rgb/A/00002.txt")
    with pytest.raises(
        FileNotFoundError, match=r"train/rgb/A/00002\.png not found: SECOND-CC-AUG\.json lists"
    ):
        read_dataset(root)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("test/sem", "test/SEM"),
        ("test/sem/A", "test/sem/a"),
        ("test/rgb", "test/RGB"),
        ("val", "VAL"),
        ("val", "validation"),
        ("train", "Train"),
        ("test", "testing"),
    ],
)
def test_folders_under_another_name_are_found(root, old, new):
    rename(root, old, new)
    dataset = read_dataset(root)
    assert all(path.is_file() for pair in dataset.pairs for path in pair.views)
    assert dataset.warnings[0].line(with_examples=True).startswith("folders found under another name: ")
    assert new in dataset.warnings[0].line(with_examples=True)


@pytest.mark.parametrize("name", ["Train", "TRAIN", "training"])
def test_splits_under_another_name_are_read(second_cc_folder, name):
    root = second_cc_folder([{**entry("1.png", "train", "a house"), "split": name}])
    dataset = read_dataset(root)
    assert dataset.pairs[0].split == "train"
    (warning,) = dataset.warnings
    assert (
        warning.line(with_examples=True)
        == f"names of splits read as train, val or test: 1 ({name} as train): check them"
    )


def test_maps_in_some_splits_and_none_in_another_are_an_error(root):
    rename(root, "val/sem", "val_maps")
    with pytest.raises(ValueError, match="all splits or none must have maps of the first date") as error:
        read_dataset(root)
    assert error.match(
        r"got them for train and test, none for val \(.*val/sem/A and .*val/sem/B not found, .*/val holds "
        r"rgb\): add them"
    )


def test_folders_that_are_not_read_are_named(root):
    for split in ("train", "val", "test"):
        rename(root, f"{split}/sem", f"{split}/maps")
    warning = "folders that are not read: 3 (train/maps; val/maps; test/maps): maps belong in sem/A"
    assert read_dataset(root).warnings[0].line(with_examples=True).startswith(warning)


def test_all_missing_images_are_counted(root):
    for name in ("train/rgb/B/00001.png", "train/rgb/B/00002.png", "val/sem/A/00004.png"):
        (root / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        read_dataset(root)
    listed = "train/rgb/B/00001.png; train/rgb/B/00002.png; val/sem/A/00004.png"
    assert error.match(f"3 images of 3 pairs not found in .*: {listed}; ")
    assert error.match(".*train/rgb/B holds 00003.png: complete the data set, or correct SECOND-CC-AUG.json")


def test_a_folder_of_another_name_is_named(root):
    rename(root, "val/rgb/B", "val/rgb/after")
    with pytest.raises(FileNotFoundError, match="val/rgb holds A, after: rename the folder, complete"):
        read_dataset(root)
    rename(root, "val/rgb/after", "val/rgb/B")
    rename(root, "val/sem/B", "val/sem/after")
    with pytest.raises(ValueError, match="sem/B not found, .*val/sem holds A, after: .*: rename the folder"):
        read_dataset(root)
    rename(root, "val/sem", "val/maps")
    with pytest.raises(ValueError, match=r"val/sem/A and .*val/sem/B not found, .*/val holds maps, rgb\)"):
        read_dataset(root)


def test_a_missing_folder_is_named_with_what_is_there(root):
    rename(root, "val/rgb", "val/photos")
    with pytest.raises(
        FileNotFoundError, match=r"2 images of 1 pairs not found .*val holds photos, sem: rename the folder"
    ):
        read_dataset(root)


def test_all_invalid_entries_are_counted(second_cc_folder):
    root = second_cc_folder([*ENTRIES, *(entry(f"{n}.png", "train", "a", changeflag=7) for n in range(3))])
    with pytest.raises(ValueError, match=r"images\[6\] \(0\.png\): .* got 7 \(2 more entries are invalid\)"):
        read_dataset(root)


def test_two_pairs_with_the_same_images_are_refused(second_cc_folder):
    root = second_cc_folder([entry("1.png", "train", "a house"), entry("2.png", "train", "a barn")])
    content = json.loads((root / "SECOND-CC-AUG.json").read_text())
    content["images"][1]["filename"] = "1.jpg"
    (root / "SECOND-CC-AUG.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"other images, got train/rgb/A/1\.png for 1\.png and 1\.jpg: correct"
    ):
        read_dataset(root)
