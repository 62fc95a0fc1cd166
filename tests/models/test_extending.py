"""The worked example of docs/extending.md: two new files are enough for every command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CONFIGS
from tests.helpers.tiny import tiny_settings

ROOT = CONFIGS.parent
PAGE = ROOT / "docs" / "extending.md"


def examples() -> dict[str, str]:
    """The files that the page shows, by path: `path`: and a block of code."""
    return dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.M | re.S))


def test_the_example_is_as_short_as_the_page_says():
    model, config = examples()["models/toy.py"], examples()["configs/toy.yaml"]
    lines = [line.strip() for line in model.splitlines()]
    assert len([line for line in lines if line and not line.startswith('"""')]) <= 40
    assert len(config.splitlines()) <= 10


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the repository with the example's files."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    folder = tmp_path_factory.mktemp("extended")
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name, text in examples().items():
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *command: str, code: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def trained(copy, demo_input) -> tuple[Path, list[str]]:
    """The copy with a run of one epoch in runs/toy, and the options that made it."""
    changes = {"model.trained_from": "nothing", "train.batch_size": 60, "train.epochs": 1}
    settings = tiny_settings(demo_input, **changes)
    names = ("model.grid", "model.heads", "model.feedforward", "model.dropout")  # a Settings has no others
    pairs = zip(settings[::2], settings[1::2], strict=True)
    options = [word for pair in pairs if pair[0].removeprefix("--") not in names for word in pair]
    run(copy, "train.py", "--config", "configs/toy.yaml", *options)
    return copy, options


@pytest.mark.slow
def test_the_example_keeps_the_contract(copy):
    argv = ["tests/models/test_contract.py", "-k", "toy", "-m", "slow or not slow", "-q"]
    assert " passed" in run(copy, "-m", "pytest", "-p", "no:cacheprovider", *argv).stdout


@pytest.mark.slow
def test_the_example_trains_on_and_is_evaluated(trained):
    folder, options = trained
    run(folder, "train.py", "--config", "configs/toy.yaml", *options, "--train.epochs", "2", "--resume")
    assert len((folder / "runs/toy/log.jsonl").read_text().splitlines()) == 2
    checkpoint = ["--checkpoint", "runs/toy/best.pt"]
    assert "BLEU-4" in run(folder, "eval.py", *checkpoint).stdout
    run(folder, "tools/make_report.py", "runs/toy")
    few = ["--perturbations", "noise", "--severities", "1"]
    run(folder, "tools/robustness.py", *checkpoint, *few)
    assert (folder / "runs/toy/robustness/robustness.json").is_file()


@pytest.mark.slow
def test_the_example_captions_and_has_no_attention_to_draw(trained, demo_input):
    folder, _ = trained
    images = [str(demo_input.parent / "dataset" / "test" / "rgb" / date) for date in "AB"]
    pair = [str(sorted(Path(image).iterdir())[0]) for image in images]
    argv = ["caption.py", *pair, "--checkpoint", "runs/toy/best.pt"]
    assert run(folder, *argv).stdout.count("\n") == 1
    refused = run(folder, *argv, "--attention", "words.png", code=2).stderr.splitlines()
    assert refused[-1].startswith("caption.py: error: --attention")
    report = ["tools/benchmark.py", "--config", "configs/toy.yaml", "--parts", "evaluation"]
    refused = run(folder, *report, "--model.weights", "none", code=2).stderr.splitlines()
    assert "--parts" in refused[-1]


@pytest.mark.slow
def test_the_example_is_trained_with_several_seeds(trained):
    folder, options = trained
    argv = ["--config", "configs/toy.yaml", "--seeds", "1", "2", "--", *options]
    assert "BLEU-4" in run(folder, "tools/run_seeds.py", *argv).stdout
