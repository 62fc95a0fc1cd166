"""Training in the 64 MB of shared memory that Docker gives a container."""

import subprocess
import sys

import h5py
import pytest

from tests.conftest import CONFIGS
from tests.helpers.tiny import tiny_settings
from tools import create_input_files, make_demo_dataset

pytestmark = pytest.mark.integration

SMALL = "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Input files of 256 x 256 pixels for five batches."""
    root = tmp_path_factory.mktemp("large")
    make_demo_dataset.main(["--output", str(root / "dataset"), "--pairs", "40", "--seed", "3"])
    argv = ["--dataset_dir", str(root / "dataset"), "--output_dir", str(root / "input")]
    create_input_files.main([*argv, "--min_word_freq", "1", "--workers", "1"])
    return root / "input"


def train_in_64_mb(folder, run_dir, *more, **changes) -> subprocess.CompletedProcess:
    """Run train.py with two workers and 64 MB of /dev/shm; skip where mount namespaces are not allowed."""
    try:
        allowed = subprocess.run(["unshare", "-m", "sh", "-c", f"{SMALL}true"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if allowed.returncode:
        pytest.skip(f"mount namespaces are not allowed: {allowed.stderr.decode().strip()}")
    settings = {
        "data.workers": 2,
        "train.epochs": 1,
        "train.captions_per_step": "one",
        "train.batch_size": 28,
        "train.select_on": "bleu_4",
        "model.trained_from": "nothing",
        "model.modalities": "rgb",
        **changes,
    }
    command = [sys.executable, "train.py", "--config", str(CONFIGS / "second_cc.yaml")]
    command += [*tiny_settings(folder, **settings), "--run_dir", str(run_dir), *more]
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{SMALL}"$@"', "sh", *command],
        cwd=CONFIGS.parent,
        capture_output=True,
        text=True,
    )


def test_the_default_batch_trains(folder, tmp_path):
    with h5py.File(folder / "train.hdf5") as file:
        assert 5 * len(file["rgb"]) >= 5 * 28  # captions: two workers would prepare more batches than fit
        assert file["rgb"].shape[-2:] == (256, 256)
    done = train_in_64_mb(folder, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best.pt").exists()
    assert "reduced to" not in done.stderr, "packed maps leave room for two"


def test_fewer_workers_are_reported_with_the_remedy(folder, tmp_path):
    done = train_in_64_mb(folder, tmp_path / "run", **{"train.batch_size": 60})
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "shm-size" in line]
    assert line.startswith("data.workers 2: reduced to 1 because ")
    assert "docker run --shm-size" in line


def test_a_batch_that_does_not_fit_ends_in_one_line(folder, tmp_path):
    done = train_in_64_mb(folder, tmp_path / "run", **{"train.batch_size": 90})
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()[-1:]
    assert "--data.workers 0" in line
    assert "--shm-size" in line
