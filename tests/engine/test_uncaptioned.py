"""Pairs without captions are refused with the command that captions them."""

import shutil
from pathlib import Path

import h5py
import pytest

from data.errors import UserError
from data.settings import DataConfig
from tools.engine.uncaptioned import caption_command, refuse_uncaptioned

CHECKPOINT = Path("runs/my run/best.pt")


def refusal(folder: Path) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as caught:
        refuse_uncaptioned(["val", "test"], DataConfig(dir=str(folder)), CHECKPOINT)
    return str(caught.value)


def test_captioned_splits_pass(demo_input):
    refuse_uncaptioned(["val", "test"], DataConfig(dir=str(demo_input)), CHECKPOINT)


def test_a_missing_split_and_its_images_are_named(demo_input, tmp_path):
    folder = Path(shutil.copytree(demo_input, tmp_path / "input"))
    (folder / "test.hdf5").unlink()
    test = demo_input.parent / "dataset" / "test"
    folders = " ".join(str(test / view) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B"))
    message = refusal(folder)
    assert message.startswith(f"{folder / 'test.hdf5'} not found: the data set has no test pairs, only train")
    assert message.endswith(f"python caption.py {folders} --checkpoint 'runs/my run/best.pt'")


def test_pairs_without_references_are_counted(demo_input, tmp_path):
    folder = Path(shutil.copytree(demo_input, tmp_path / "input"))
    with h5py.File(folder / "test.hdf5", "r+") as file:
        count = len(file["references"])
        file["references"][1] = ""
        name = file["filename"].asstr()[1]
    assert f"needs a human caption to be scored, 1 of {count} have none (the first is {name}): " in refusal(
        folder
    )
    assert "caption them with python caption.py " in refusal(folder)


def test_a_data_set_given_as_input_files_is_recognised(tmp_path):
    for date in "AB":
        (tmp_path / "images" / "test" / date).mkdir(parents=True)
    command = caption_command("test", str(tmp_path), CHECKPOINT)
    images = tmp_path / "images" / "test"
    assert command == f"python caption.py {images}/A {images}/B --checkpoint 'runs/my run/best.pt'"
    assert caption_command("val", str(tmp_path), CHECKPOINT).startswith(
        "python caption.py FOLDER_A FOLDER_B "
    )
