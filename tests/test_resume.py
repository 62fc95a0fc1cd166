"""A run that is killed and resumed ends with the bytes of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_checkpoint
from tests.conftest import CONFIGS
from tests.tiny import tiny_settings

pytestmark = pytest.mark.slow
ROOT = CONFIGS.parent
KILLS = int(os.environ.get("KILLS", 2))  # KILLS=20 is the long form
EPOCHS = 2 + KILLS  # a kill costs less than an epoch: the last one still finds the run under way


def command(demo_input: Path, run_dir: Path) -> list[str]:
    settings = {
        "train.epochs": EPOCHS,
        "train.early_stop": EPOCHS,
        "train.schedule": "one_cycle",
        "train.checkpoint_minutes": 1e-4,
    }
    settings["data.augment"] = "[flips, noise, registration]"
    options = tiny_settings(demo_input, **settings)
    return [
        sys.executable,
        "train.py",
        "--config",
        "configs/second_cc.yaml",
        *options,
        "--run_dir",
        str(run_dir),
    ]


def outcome(run_dir: Path) -> tuple[dict, list[dict], str]:
    """Final weights, the log without its times, the captions."""
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return load_checkpoint(run_dir / "last.pt")["model"], log, (run_dir / "val_captions.json").read_text()


def assert_same_outcome(run_dir: Path, other: Path) -> None:
    (weights, log, captions), (weights2, log2, captions2) = outcome(run_dir), outcome(other)
    assert log == log2
    assert captions == captions2
    assert weights.keys() == weights2.keys()
    for name, value in weights.items():
        assert torch.equal(value, weights2[name]), name


@pytest.fixture(scope="module")
def uninterrupted(demo_input, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(demo_input, run_dir), cwd=ROOT, check=True, capture_output=True)
    return run_dir


def test_kill_9_at_any_moment_loses_nothing(uninterrupted, demo_input, tmp_path):
    """Moments from the first step on: in steps, in a checkpoint's writing, in validation, between epochs."""
    log = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    longest, moments = 1.2 * sum(line["seconds"] for line in log) / len(log), random.Random(1)
    resumed = [*command(demo_input, tmp_path / "run"), "--resume"]
    for _ in range(KILLS):
        said = tmp_path / "stderr"
        with said.open("w") as stderr:
            process = subprocess.Popen(resumed, cwd=ROOT, stderr=stderr)
        while "steps an epoch" not in said.read_text() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, longest))
        assert process.poll() is None, f"the run must be under way when it is killed: {said.read_text()}"
        process.kill()
        process.wait()
        writing = " while it wrote a checkpoint" * bool(list(tmp_path.glob("run/*.partial")))
        print("killed in", said.read_text().split("\r")[-1].strip()[:40], writing)
    subprocess.run(resumed, cwd=ROOT, check=True, capture_output=True)
    assert_same_outcome(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(uninterrupted, demo_input, tmp_path, number):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(command(demo_input, run_dir), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (run_dir / "last.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert "go on with --resume" in said.splitlines()[-1]
    subprocess.run([*command(demo_input, run_dir), "--resume"], cwd=ROOT, check=True, capture_output=True)
    assert_same_outcome(run_dir, uninterrupted)
