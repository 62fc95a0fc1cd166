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

from tests.conftest import CONFIGS
from tests.helpers.tiny import tiny_settings
from tools.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow
ROOT = CONFIGS.parent
KILLS = int(os.environ.get("KILLS", 2))  # KILLS=20 is the long form
EPOCHS = 2 + KILLS  # a kill costs less than an epoch: the last one still finds the run under way


def command(demo_input: Path, run_dir: Path, processes: int = 1, workers: int = 0) -> list[str]:
    """train.py on the demo pairs, in one process or, by torchrun, in several."""
    settings = {
        "train.epochs": EPOCHS,
        "train.early_stop": EPOCHS,
        "train.schedule": "one_cycle",
        "train.checkpoint_minutes": 1e-4,
        "data.augment": "[flips, noise, registration]",
        "data.workers": workers,
    }
    if processes > 1:
        settings |= {"model.block_batchnorm": "frozen", "model.trunk_batchnorm": "frozen"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [
        sys.executable,
        *(torchrun if processes > 1 else []),
        "train.py",
        "--config",
        "configs/second_cc.yaml",
        *tiny_settings(demo_input, **settings),
        "--run_dir",
        str(run_dir),
    ]


def outcome(run_dir: Path) -> tuple[dict, list[dict], str]:
    """Final weights, the log without its times, the captions."""
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return load_checkpoint(run_dir / "last.pt")["model"], lines, (run_dir / "val_captions.json").read_text()


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


def test_run_can_be_resumed_after_sigkill_at_any_moment(uninterrupted, demo_input, tmp_path):
    """Moments from the first step on: in steps, in a checkpoint's writing, in validation, between epochs."""
    log = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    longest, moments = 1.2 * sum(line["seconds"] for line in log) / len(log), random.Random(1)
    resumed = [*command(demo_input, tmp_path / "run"), "--resume"]
    for _ in range(KILLS):
        message = tmp_path / "stderr"
        with message.open("w") as stderr:
            process = subprocess.Popen(resumed, cwd=ROOT, stderr=stderr)
        while "steps per epoch" not in message.read_text() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, longest))
        assert process.poll() is None, f"the run must be under way when it is killed: {message.read_text()}"
        process.kill()
        process.wait()
        writing = " while it wrote a checkpoint" * bool(list(tmp_path.glob("run/*.partial")))
        print("killed after", message.read_text().splitlines()[-1][:40], writing)
    subprocess.run(resumed, cwd=ROOT, check=True, capture_output=True)
    assert_same_outcome(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_writes_a_checkpoint_and_prints_how_to_resume(uninterrupted, demo_input, tmp_path, number):
    run_dir = tmp_path / "run"
    process = subprocess.Popen(command(demo_input, run_dir), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (run_dir / "last.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    message = process.communicate()[1]
    assert process.returncode == 130, message
    assert "go on with --resume" in message.splitlines()[-1]
    subprocess.run([*command(demo_input, run_dir), "--resume"], cwd=ROOT, check=True, capture_output=True)
    assert_same_outcome(run_dir, uninterrupted)


@pytest.mark.parametrize(("processes", "workers"), [(1, 2), (2, 1)])
def test_run_can_be_resumed_after_sigterm_to_the_process_group(demo_input, tmp_path, processes, workers):
    """As a scheduler or torchrun sends it: to the trainers, their data workers and Java at once."""
    whole = tmp_path / "whole"
    subprocess.run(command(demo_input, whole, processes, workers), cwd=ROOT, check=True, capture_output=True)
    seconds = [json.loads(line)["seconds"] for line in (whole / "log.jsonl").read_text().splitlines()]
    longest, moments = 1.2 * sum(seconds) / len(seconds), random.Random(2)
    run_dir = tmp_path / "run"
    resumed = [*command(demo_input, run_dir, processes, workers), "--resume"]
    for number in range(KILLS):
        output = tmp_path / f"stderr_{number}"
        with output.open("w") as stderr:
            process = subprocess.Popen(resumed, cwd=ROOT, stderr=stderr, start_new_session=True)
        while "steps per epoch" not in output.read_text() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, longest))
        assert process.poll() is None, f"the run must be under way: {output.read_text()}"
        if processes == 1:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()  # torchrun passes it on to the groups of its processes
        started = time.monotonic()
        process.wait(timeout=120)
        seconds_to_stop = time.monotonic() - started
        assert (run_dir / "last.pt").exists(), output.read_text()
        assert "is killed by signal" not in output.read_text(), output.read_text()
        print(f"stopped within {seconds_to_stop:.1f} s")
    subprocess.run(resumed, cwd=ROOT, check=True, capture_output=True)
    assert_same_outcome(run_dir, whole)
