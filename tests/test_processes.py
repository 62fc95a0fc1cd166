"""Several processes do what one does: same steps, same gradients, same losses, same scores."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import train
from configs import Config, DataConfig, TrainConfig
from data.dataset import SPARE, Draw, StepSampler, open_samples, step_sampler
from tests.conftest import CONFIGS
from tests.tiny import tiny_settings
from tools.processes import Processes, check_batchnorm
from train import accumulate_remark

ROOT = CONFIGS.parent
PLAIN = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
FROZEN = {
    "model.trunk_batchnorm": "frozen",
    "model.block_batchnorm": "frozen",
    "model.dropout": 0,
    "model.embedding_dropout": 0,
    "train.epochs": 1,
    "train.batch_size": 25,  # 5 pairs: shares of 3 and 2; the last of the 21 pairs leaves one process a spare
}


def run(launcher: list[str], *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*launcher, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def options(demo_input, **changes) -> list[str]:
    return ["--config", "configs/second_cc.yaml", *tiny_settings(demo_input, **{**FROZEN, **changes})]


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_first_steps_gradients(demo_input, tmp_path, accumulate):
    for launcher, name, portions in ((PLAIN, "one", 1), (TWO, "two", accumulate)):
        settings = options(demo_input, **{"train.accumulate": portions})
        done = run(launcher, "tests/one_step.py", tmp_path / name, *settings)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert one["words"] == two["words"]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for name, gradient in one["gradients"].items():
        error = (two["gradients"][name] - gradient).norm()
        assert error <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.slow
def test_an_epoch_and_its_scores(demo_input, tmp_path):
    for launcher, name in ((PLAIN, "one"), (TWO, "two")):
        done = run(launcher, "train.py", *options(demo_input), "--run_dir", tmp_path / name)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "log.jsonl").read_text()) for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
    assert two["val"] == pytest.approx(one["val"], abs=1e-6)
    captions = [json.loads((tmp_path / name / "val_captions.json").read_text()) for name in ("one", "two")]
    assert [c["caption"] for c in captions[0]] == [c["caption"] for c in captions[1]]


@pytest.mark.slow
def test_evaluation_shares_the_split_out(tiny_run, tmp_path):
    for launcher, name in ((PLAIN, "one"), (TWO, "two")):
        arguments = [
            "--checkpoint",
            tiny_run / "best.pt",
            "--split",
            "val",
            "test",
            "--output",
            tmp_path / name,
        ]
        done = run(launcher, "eval.py", *arguments)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "captions.json").read_text()) for name in ("one", "two"))
    assert [c["caption"] for c in one] == [c["caption"] for c in two]
    assert [c["log_prob"] for c in one] == pytest.approx([c["log_prob"] for c in two], abs=1e-4)


@pytest.mark.slow
def test_live_batchnorm_on_several_cpus_is_refused(demo_input, tmp_path):
    live = options(demo_input, **{"model.block_batchnorm": "live"})
    done = run(TWO, "train.py", *live, "--run_dir", tmp_path / "run")
    assert done.returncode != 0
    assert "several processes on CPUs cannot share live BatchNorm's statistics" in done.stderr
    assert "--model.block_batchnorm frozen" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_make_up_the_batch(count):
    shares = [list(StepSampler(11, 5, seed=1, rank=rank, count=count)) for rank in range(count)]
    whole = list(StepSampler(11, 5, seed=1))
    assert [len(batch) for batch in whole] == [5, 5, 1]
    for step, batch in enumerate(whole):
        together = [draw for share in shares for draw in share[step] if draw.sample != SPARE]
        assert sorted(together) == sorted(batch)
        assert all(share[step] for share in shares)
    assert sorted(itertools.chain(*whole)) == [Draw(1, sample) for sample in range(11)]


def test_an_epoch_entered_in_its_middle():
    sampler = StepSampler(11, 3, seed=1)
    sampler.begin(2)
    whole = list(sampler)
    sampler.begin(2, 2)
    assert list(sampler) == whole[2:]
    assert len(sampler) == 2
    sampler.begin(3)
    assert list(sampler) != whole


def test_parts_of_a_step_add_up(demo_input):
    """train.Progress counts what the epoch's mean loss needs."""
    progress = train.Progress(loss=6.0, count=3.0, step=4, steps=9)
    assert progress.judge(1.0)
    assert not progress.judge(1.0)
    assert (progress.epoch, progress.step, progress.steps, progress.stale) == (3, 0, 9, 1)


def test_portions_with_live_batchnorm_are_refused_for_several_processes():
    config = Config(train=TrainConfig(accumulate=2))
    with pytest.raises(ValueError, match=r"train.accumulate must be 1 where several processes share live"):
        check_batchnorm(config, Processes(rank=0, count=3), torch.device("cuda"))
    check_batchnorm(config, Processes(), torch.device("cuda"))
    frozen = replace(config, model=replace(config.model, block_batchnorm="frozen"))
    check_batchnorm(frozen, Processes(rank=0, count=3), torch.device("cuda"))


def test_more_processes_than_samples_of_a_step_are_refused(demo_input):
    config = Config(
        data=DataConfig(dir=str(demo_input)), train=TrainConfig(batch_size=10, captions_per_step="all")
    )
    samples = open_samples("train", config)
    assert step_sampler(samples, config, rank=0, count=2).batch_size == 2
    with pytest.raises(ValueError, match="3 processes need a sample each at every step, .* gives 2: raise"):
        step_sampler(samples, config, rank=0, count=3)


def test_training_says_that_portions_change_live_statistics():
    live = Config(train=TrainConfig(accumulate=2))
    assert "gradients differ from those of the whole batch" in accumulate_remark(live)[0]
    assert accumulate_remark(replace(live, model=replace(live.model, block_batchnorm="frozen"))) == []
    assert accumulate_remark(Config()) == []
