"""Pairs of files and of folders, and the diagnosis of other arguments."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.hdf5 import VIEWS
from data.pair_files import PairFiles, pairs_of_arguments, read_files, remark_on_maps
from data.settings import DataConfig
from tests.conftest import save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A function that creates a folder with empty files of these names, relative to the current one."""
    monkeypatch.chdir(tmp_path)

    def create(name: str, *files: str) -> str:
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return name

    return create


def test_folders_are_joined_by_name_whatever_the_ending(folder, capsys):
    before = folder("A", "2.png", "10.png", "sub/1.JPG", ".hidden.png", ".cache/2.png")
    after = folder("B", "10.tif", "2.png", "sub/1.png")
    pairs = pairs_of_arguments([before, after])
    assert [pair.given for pair in pairs] == [
        {"img_A": "A/10.png", "img_B": "B/10.tif"},
        {"img_A": "A/2.png", "img_B": "B/2.png"},
        {"img_A": "A/sub/1.JPG", "img_B": "B/sub/1.png"},
    ]
    assert capsys.readouterr().err == ""


def test_names_in_one_folder_only_are_counted(folder, capsys):
    before = folder("A", *[f"{number}.png" for number in range(6)], "notes.txt")
    pairs_of_arguments([before, folder("B", "0.png", "9.png")])
    assert capsys.readouterr().err.splitlines() == [
        "A: files that do not end like images: 1 (notes.txt)",
        "A: names that are not in both image folders: 5 (1, 2, 3 and 2 more)",
        "B: names that are not in both image folders: 1 (9)",
    ]


def test_folders_of_maps_may_lack_pairs(folder, capsys):
    images = [folder(name, "0.png", "1.png") for name in "AB"]
    maps = [folder(name, "1.png", "2.png") for name in ("sA", "sB")]
    first, second = pairs_of_arguments([*images, *maps])
    assert not first.has_maps
    assert second.given["seg_A"] == "sA/1.png"
    assert "sA: names that are not in both image folders: 1 (2)" in capsys.readouterr().err
    assert pairs_of_arguments([*images, "sB"])[1].given.keys() == {"img_A", "img_B", "seg_B"}


@pytest.mark.parametrize("lacking", ["sA", "sB"])
def test_one_of_two_maps_is_not_enough(folder, lacking):
    images = [folder(name, "0.png", "1.png") for name in "AB"]
    maps = [folder(name, "1.png", *["0.png"] * (name != lacking)) for name in ("sA", "sB")]
    with pytest.raises(
        UserError, match=f"both maps or none: {lacking} has no map for A/0.png: add it, or remove"
    ):
        pairs_of_arguments([*images, *maps])


def test_nothing_in_common_is_an_error(folder):
    with pytest.raises(
        UserError, match="A and B must hold files of the same names, .*got 1 and 2: .*--pairs"
    ):
        pairs_of_arguments([folder("A", "1.png"), folder("B", "2.png")])
    with pytest.raises(UserError, match="sem and A must hold .*got 3 and 1: rename"):
        pairs_of_arguments(["A", folder("C", "1.png"), folder("sem", "3.png")])


def test_two_images_of_one_name_are_an_error(folder):
    with pytest.raises(
        UserError, match="A must hold one image of each name, got A/1.jpg and A/1.png: move one"
    ):
        pairs_of_arguments([folder("A", "1.png", "1.jpg"), folder("B", "1.png")])


def test_a_folder_without_images_is_an_error(folder):
    with pytest.raises(UserError, match="A holds no image: name a folder of PNG, JPEG or TIFF files"):
        pairs_of_arguments([folder("A", "1.txt"), folder("B", "1.png")])


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("B/1.png", "files only or folders only, got the folder A and the file B/1.png: give folders"),
        ("none", "none not found: A is a folder, give a folder of its images beside it"),
        (
            "https://example.org/1.png",
            "https://example.org/1.png is an address, not a file: download the image",
        ),
        ("", 'a pair must be paths, got "": check the variables on your command line'),
        ("file:///b/1.png", "is an address, not a file: download the image and give its path"),
    ],
)
def test_a_folder_beside_something_else_is_diagnosed(folder, other, message, swapped):
    arguments = [folder("A", "1.png"), other]
    folder("B", "1.png")
    with pytest.raises((UserError, FileNotFoundError), match=message):
        pairs_of_arguments(arguments[::-1] if swapped else arguments)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_other_numbers_of_arguments_are_an_error(count):
    with pytest.raises(
        UserError, match=f"got {count} files .for many pairs give two to four folders, or --pairs"
    ):
        pairs_of_arguments(["a.png"] * count)


def test_addresses_and_folders_in_a_table_are_diagnosed(folder, tmp_path):
    folder("A", "1.png")
    save(tmp_path / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="s3://bucket/b.png is an address, not a file"):
        read_files(PairFiles({"img_A": "a.png", "img_B": "s3://bucket/b.png"}, tmp_path))
    with pytest.raises(UserError, match="A is a folder: name an image file"):
        read_files(PairFiles({"img_A": "a.png", "img_B": "A"}, tmp_path))


WITHOUT = PairFiles({"img_A": "a.png", "img_B": "b.png"})
WITH = PairFiles({**WITHOUT.given, "seg_B": "m.png"})


def test_missing_maps_are_warned_of_if_the_model_was_trained_with_maps(capsys):
    for training in (DataConfig(), DataConfig(maps="detected"), DataConfig(augment=["map_borders"])):
        remark_on_maps([WITHOUT, WITH, WITHOUT], VIEWS, training)
        assert capsys.readouterr().err == (
            "no maps given for 2 of 3 pairs: they are void, and a model trained with maps then rarely "
            "reports a change: give maps or --detector, or train with --data.augment '[map_void]'\n"
        )


@pytest.mark.parametrize(
    ("training", "detected", "effect"),
    [
        (DataConfig(maps="void"), False, "void"),
        (DataConfig(augment=["flips", "map_void"]), False, "void"),
        (DataConfig(), True, "detected"),
    ],
)
def test_missing_maps_that_the_model_can_do_without_get_a_remark_alone(training, detected, effect, capsys):
    remark_on_maps([WITHOUT], VIEWS, training, detected=detected)
    remark_on_maps([WITH], VIEWS, training, detected=detected)
    assert capsys.readouterr().err == f"no maps given: both are {effect}\n"


def test_missing_maps_do_not_matter_to_a_model_of_images(capsys):
    remark_on_maps([WITHOUT], VIEWS[:2], DataConfig())
    assert capsys.readouterr().err == ""
