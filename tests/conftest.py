"""Shared fixtures: tiny dataset folders in SECOND-CC's layout, input files, a run, and the real data."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from hypothesis import settings

import train
from tests.helpers.tiny import tiny_settings
from tools import create_input_files, make_demo_dataset
from tools.scoring.meteor import Meteor

settings.register_profile("without a clock", deadline=None)  # a busy machine is no failure
settings.load_profile("without a clock")

torch.set_num_threads(1)  # networks this small only lose by sharing their work out

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]  # a test's code runs on the CPU everywhere
BUILDING, WHITE = (128, 0, 0), (255, 255, 255)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device that torch can use"))


def entry(filename: str, split: str, *captions: str, **fields) -> dict:
    """An entry of the JSON, changed by default; `fields` override or extend the usual ones."""
    sentences = [{"raw": f" {caption} .", "tokens": caption.split()} for caption in captions]
    usual = {"filename": filename, "filepath": split, "split": split, "changeflag": 1, "sentences": sentences}
    return {**usual, **fields}


ENTRIES = [
    entry(
        "00001.png", "train", "a house appears in the corner", "a new house is built", "a house stands there"
    ),
    entry("00002.png", "train", "there is no difference", "no change is occurred", changeflag=0),
    entry("00003.png", "train", "a house replaces some trees", "a house is built"),
    entry("00004.png", "val", "a house appears", "a barn appears"),
    entry("00005.png", "test", "a house is built in the corner"),
    entry("00006.png", "test", "the scene is the same as before", changeflag=0),
]


def write_views(root: Path, item: dict, size: int, with_maps: bool) -> None:
    """Write noise as images, and white maps with a building if the pair has changed."""
    for date in "AB":
        noise = np.random.default_rng(zlib.crc32((item["filename"] + date).encode()))
        save(root / "rgb" / date / item["filename"], noise.integers(0, 256, (size, size, 3), dtype=np.uint8))
        if with_maps:
            semantic = np.full((size, size, 3), WHITE, dtype=np.uint8)
            if item.get("changeflag") and date == "B":
                semantic[size // 4 : size // 2, size // 4 : size // 2] = BUILDING
            save(root / "sem" / date / item["filename"], semantic)


def save(path: Path, image: np.ndarray) -> None:
    """Write an image; creates missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, image)


@pytest.fixture
def second_cc_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a dataset folder in SECOND-CC's layout and returns its path.

    `second_cc_folder()` has three train pairs, one val, two test; `entries` (see `entry`) replace them.
    """

    def write(
        entries: Sequence[dict] = ENTRIES,
        *,
        size: int = 16,
        with_maps: bool = True,
        name: str = "SECOND_CC_dataset",
    ) -> Path:
        root = tmp_path / name
        root.mkdir()
        (root / "SECOND-CC-AUG.json").write_text(json.dumps({"images": list(entries)}))
        for item in entries:
            write_views(root / item.get("filepath", item["split"]), item, size, with_maps)
        return root

    return write


@pytest.fixture(scope="session")
def meteor() -> Iterator[Meteor]:
    """A METEOR for all tests, whose Java was started with an empty PATH."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", "")
        started = Meteor()
    with started:
        yield started


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real pairs beside the checkout; tests that use it are marked `real`."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the real pairs are not here")
    return path


@pytest.fixture(scope="session")
def real_pairs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 555 real pairs as PNG files in SECOND-CC's layout; do not modify them, all tests share them."""
    root = tmp_path_factory.mktemp("real") / "SECOND_CC_dataset"
    subprocess.run(
        [sys.executable, real_data / "levir_pairs" / "unpack.py", root], check=True, capture_output=True
    )
    return root


@pytest.fixture(scope="session")
def demo_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input files of a small demo set, 32 x 32, 3 m per pixel; the folder `dataset` is beside them."""
    root = tmp_path_factory.mktemp("demo")
    make_demo_dataset.main(["--output", str(root / "dataset"), "--pairs", "30", "--seed", "3"])
    argv = ["--dataset_dir", str(root / "dataset"), "--output_dir", str(root / "input"), "--image_size", "32"]
    create_input_files.main([*argv, "--min_word_freq", "1", "--workers", "1", "--metres_per_pixel", "0.375"])
    return root / "input"


@pytest.fixture(scope="session")
def tiny_run(demo_input: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two epochs on `demo_input`; do not modify it, all tests share it."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train.main(
        ["--config", str(CONFIGS / "second_cc.yaml"), *tiny_settings(demo_input), "--run_dir", str(run)]
    )
    return run
