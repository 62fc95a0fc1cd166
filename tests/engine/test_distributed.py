"""Several processes give the same steps, gradients, losses and scores as one."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from configs import Config, TrainConfig
from data.sampler import SPARE, Draw, StepSampler
from data.settings import DataConfig
from tests.conftest import CONFIGS
from tests.helpers.one_step import CASES
from tests.helpers.tiny import tiny_settings
from tools.engine.distributed import Processes, split_batch
from tools.engine.training_data import open_samples, step_sampler
from tools.engine.training_steps import Progress
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


@pytest.fixture(scope="module")
def single_steps(demo_input, tmp_path_factory) -> list[dict]:
    """The results of each case of tests/helpers/one_step.py, from one process and from two."""
    folder = tmp_path_factory.mktemp("steps")
    for launcher, name in ((PLAIN, "one"), (TWO, "two")):
        done = run(launcher, "tests/helpers/one_step.py", folder / name, demo_input)
        assert done.returncode == 0, done.stderr
    return [torch.load(folder / name, weights_only=True) for name in ("one", "two")]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_statistics_of_a_step(single_steps, case):
    one, two = (results[case] for results in single_steps)
    assert one["words"] == two["words"]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        error = (two["gradients"][name] - gradient).norm()
        assert error <= 1e-5 * gradient.norm() + 1e-7, name
    assert not two["unequal"]
    for name, statistic in one["statistics"].items():
        torch.testing.assert_close(two["statistics"][name], statistic, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
def test_micro_batches_do_not_change_gradients_with_frozen_batchnorm(single_steps):
    whole, parts = (single_steps[0][f"frozen, {name}"] for name in ("5 and 4 pairs", "micro-batches"))
    for name, gradient in whole["gradients"].items():
        assert (parts["gradients"][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.slow
def test_micro_batches_change_gradients_with_live_batchnorm(single_steps):
    """As the documentation of train.accumulate says: statistics are those of a micro-batch."""
    whole, parts = (single_steps[0][f"live, {name}"] for name in ("5 and 4 pairs", "micro-batches"))
    name = "fusion.blocks_rgb.0.conv.0.weight"
    gradient = whole["gradients"][name]
    assert (parts["gradients"][name] - gradient).norm() > 0.01 * gradient.norm()


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
def test_evaluation_divides_the_split(tiny_run, tmp_path):
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


@pytest.mark.parametrize(("samples", "accumulate", "count"), [(9, 4, 2), (9, 9, 2), (1, 1, 2), (10, 3, 3)])
def test_micro_batches_of_all_processes_equal_those_of_one_process(samples, accumulate, count):
    """Also if a process has no sample of a micro-batch, or only a spare sample."""
    whole = split_batch({"index": torch.arange(samples)}, samples, accumulate, Processes())
    parts = []
    for rank in range(count):
        share = torch.arange(samples)[rank::count]
        share = share if len(share) else torch.tensor([SPARE])
        parts.append(split_batch({"index": share}, samples, accumulate, Processes(rank, count)))
    assert [len(part) for part in parts] == [len(whole)] * count
    for index, micro_batch in enumerate(whole):
        together = torch.cat([part[index]["index"] for part in parts])
        assert sorted(together.tolist()) == micro_batch["index"].tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_of_processes_cover_the_batch(count):
    shares = [list(StepSampler(11, 5, seed=1, rank=rank, count=count)) for rank in range(count)]
    whole = list(StepSampler(11, 5, seed=1))
    assert [len(batch) for batch in whole] == [5, 5, 1]
    for step, batch in enumerate(whole):
        together = [draw for share in shares for draw in share[step] if draw.sample != SPARE]
        assert sorted(together) == sorted(batch)
        assert all(share[step] for share in shares)
    assert sorted(itertools.chain(*whole)) == [Draw(1, sample) for sample in range(11)]


def test_epoch_can_be_resumed_at_any_step():
    sampler = StepSampler(11, 3, seed=1)
    sampler.begin(2)
    whole = list(sampler)
    sampler.begin(2, 2)
    assert list(sampler) == whole[2:]
    assert len(sampler) == 2
    sampler.begin(3)
    assert list(sampler) != whole


def test_progress_starts_the_next_epoch():
    progress = Progress(loss=6.0, count=3.0, step=4, steps=9)
    assert progress.end_epoch(1.0)
    assert not progress.end_epoch(1.0)
    assert (progress.epoch, progress.step, progress.steps, progress.stale) == (3, 0, 9, 1)
    assert (progress.loss, progress.count) == (0.0, 0.0)


def test_more_processes_than_samples_of_a_step_are_refused(demo_input):
    config = Config(
        data=DataConfig(dir=str(demo_input)), train=TrainConfig(batch_size=10, captions_per_step="all")
    )
    samples = open_samples("train", config)
    assert step_sampler(samples, config, rank=0, count=2).batch_size == 2
    with pytest.raises(ValueError, match="the 3 processes needs a sample at every step, .* gives 2: raise"):
        step_sampler(samples, config, rank=0, count=3)


def test_training_warns_that_micro_batches_change_live_statistics():
    live = Config(train=TrainConfig(accumulate=2))
    assert "gradients differ from those of the whole batch" in accumulate_remark(live)[0]
    assert accumulate_remark(replace(live, model=replace(live.model, block_batchnorm="frozen"))) == []
    assert accumulate_remark(Config()) == []
