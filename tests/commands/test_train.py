"""The command train.py: its files, resuming, errors, and the training recipe."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import pytest
import torch

import train
from configs import TrainConfig
from configs.command_line import load
from data.dataset import collate
from data.errors import UserError
from tests.conftest import CONFIGS
from tests.helpers.tiny import (
    END,
    PAD,
    START,
    random_tokens,
    random_views,
    save_tiny_detector,
    tiny_model,
    tiny_settings,
)
from tools import create_input_files, detect_maps
from tools.engine.captioning_task import CaptionLoss
from tools.engine.checkpoint import load_checkpoint, save_checkpoint
from tools.engine.distributed import Processes
from tools.engine.optimiser import clip_gradients, decay_rates, make_optimiser
from tools.engine.run_state import check_same_progress
from tools.engine.training_steps import Progress, TrainingSteps

pytestmark = pytest.mark.integration

BASE = ["--config", str(CONFIGS / "second_cc.yaml")]


def run(folder: Path, run_dir: Path, *more: str, **changes) -> None:
    train.main([*BASE, *tiny_settings(folder, **changes), "--run_dir", str(run_dir), *more])


def log_of(run_dir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def test_a_run_folder_explains_itself(tiny_run):
    files = {path.name.split(".tfevents")[0] for path in tiny_run.iterdir()}
    assert {"config.yaml", "log.jsonl", "val_captions.json", "best.pt", "last.pt", "events.out"} <= files
    assert [line["epoch"] for line in log_of(tiny_run)] == [1, 2]
    assert log_of(tiny_run)[1]["loss"] < log_of(tiny_run)[0]["loss"]
    captions = json.loads((tiny_run / "val_captions.json").read_text())
    assert len(captions) == 3
    assert all(caption["references"] for caption in captions)
    content = load_checkpoint(tiny_run / "last.pt")
    assert (content["epoch"], content["image_size"]) == (2, [32, 32])
    assert "training" not in load_checkpoint(tiny_run / "best.pt")
    assert "the scene is the same as before" in content["train_captions"]
    assert len(set(content["train_captions"])) == len(content["train_captions"])
    assert set(content["train_constants"]) == {"all", "changed", "unchanged"}
    assert set(content["train_constants"].values()) <= set(content["train_captions"])
    assert "there is no difference" in content["no_change"]


def test_a_resumed_run_equals_an_uninterrupted_one(tiny_run, demo_input, tmp_path, capsys):
    settings = {"train.schedule": "plateau"}
    run(demo_input, tmp_path / "cut", **{**settings, "train.epochs": 1})
    run(demo_input, tmp_path / "cut", "--resume", **settings)
    messages = capsys.readouterr().err
    assert "going on after step 11, in epoch 2" in messages
    assert "epoch 2: loss" in messages
    assert "\r" not in messages  # no progress bars where standard error is not a terminal
    assert log_of(tmp_path / "cut") == log_of(tiny_run)
    whole, cut = (load_checkpoint(folder / "last.pt") for folder in (tiny_run, tmp_path / "cut"))
    for name, value in whole["model"].items():
        assert torch.equal(value, cut["model"][name]), name


@pytest.mark.slow
def test_a_resumed_step_schedule_equals_an_uninterrupted_one(demo_input, tmp_path):
    """The run is cut before the epoch in which the rates fall, and after it."""
    settings = {"train.schedule": "step", "train.decay_patience": 1, "train.decay": 0.5, "train.epochs": 3}
    run(demo_input, tmp_path / "whole", **settings)
    rates = [line["learning_rate"] for line in log_of(tmp_path / "whole")]
    for before, after in pairwise(rates):
        assert after == {part: rate / 2 for part, rate in before.items()}
    run(demo_input, tmp_path / "cut", **{**settings, "train.epochs": 1})
    for epochs in (2, 3):
        run(demo_input, tmp_path / "cut", "--resume", **{**settings, "train.epochs": epochs})
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    whole, cut = (load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("whole", "cut"))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_one_cycle_ends_low_and_fixes_the_number_of_epochs(demo_input, tmp_path):
    settings = {"train.schedule": "one_cycle", "train.epochs": 2}
    run(demo_input, tmp_path / "run", **settings)
    first, last = (line["learning_rate"]["decoder"] for line in log_of(tmp_path / "run"))
    assert last < first / 10
    longer = {**settings, "train.epochs": 3}
    rule = r"one_cycle, .* all train.epochs \(2\) at the start, so train.epochs cannot become 3: "
    remedy = r"--train.start_from \S+/run/best.pt in a new --run_dir"
    with pytest.raises(UserError, match=f"{rule}.*{remedy}"):
        run(demo_input, tmp_path / "run", "--resume", **longer)
    best = tmp_path / "run" / "best.pt"
    run(demo_input, tmp_path / "longer", **{**longer, "train.start_from": best, "train.epochs": 1})


@pytest.mark.slow
def test_training_on_other_words_starts_from_the_weights_of_common_words(
    tiny_run, second_cc_folder, tmp_path, capsys
):
    argv = ["--dataset_dir", str(second_cc_folder()), "--output_dir", str(tmp_path / "input")]
    create_input_files.main([*argv, "--min_word_freq", "0", "--image_size", "32", "--workers", "1"])
    changes = {"train.start_from": tiny_run / "best.pt", "train.epochs": 1, "train.learning_rate": 1e-12}
    run(tmp_path / "input", tmp_path / "run", **changes)  # its steps are too small to be seen
    given, trained = (load_checkpoint(path) for path in (tiny_run / "best.pt", tmp_path / "run" / "last.pt"))
    old, new = given["vocabulary"], trained["vocabulary"]
    common = [word for word in new if word in old]
    assert 4 < len(common) < len(new)
    for name in ("decoder.embedding.weight", "decoder.output.weight", "decoder.output.bias"):
        kept = given["model"][name][[old.index(word) for word in common]]
        rows = trained["model"][name][[new.index(word) for word in common]]
        torch.testing.assert_close(rows, kept, rtol=0, atol=1e-7)
    counts = f"words with the weights of the checkpoint: {len(common) - 4} of {len(new) - 4}, new words"
    assert counts in capsys.readouterr().err


def test_resume_without_config_uses_the_settings_of_the_run_folder(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    argv = ["--resume", "--run_dir", str(tmp_path / "run")]
    config, run_dir, resume = train.read_command(argv)
    assert config == load(tiny_run / "config.yaml")
    assert (run_dir, resume) == (tmp_path / "run", True)
    assert train.read_command([*argv, "--train.epochs", "7"])[0].train.epochs == 7
    with pytest.raises(UserError, match=r"other settings, model.width \(16 -> 32\): resume with the same"):
        train.main([*argv, "--model.width", "32"])
    train.main([*argv, "--train.epochs", "3"])
    assert [line["epoch"] for line in log_of(tmp_path / "run")] == [1, 2, 3]


def test_resume_without_config_needs_a_run_folder(tmp_path):
    with pytest.raises(UserError, match=r"run/config.yaml not found: give --config to start a run, or the"):
        train.read_command(["--resume", "--run_dir", str(tmp_path / "run")])
    for argv in ([], ["--resume"], ["--run_dir", str(tmp_path)]):
        with pytest.raises(UserError, match="--config is missing: .*, or --resume with the --run_dir"):
            train.read_command(argv)
    (tmp_path / "config.yaml").write_text("data: {}")
    with pytest.raises(UserError, match=r"config.yaml: its settings have no section model: give the run's"):
        train.read_command(["--resume", "--run_dir", str(tmp_path)])


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (5, 0.5)], ids=["between epochs", "within an epoch"])
@pytest.mark.parametrize(("schedule", "falling"), [("plateau", {"decoder"}), ("step", {"decoder", "fusion"})])
def test_a_resumed_schedule_lowers_the_rates_once(demo_input, tmp_path, schedule, falling, step, factor):
    """last.pt after a stale epoch: the rates fall at the first step of the next epoch, and only there."""
    settings = {"train.decay_patience": 1, "train.decay": 0.5, "train.learning_rate": 0.001}
    settings["train.schedule"] = schedule
    run(demo_input, tmp_path / "run", **settings, **{"train.epochs": 1})
    content = load_checkpoint(tmp_path / "run" / "last.pt")
    training = content["training"]
    steps = training["progress"]["steps"] + step
    training["progress"] |= {
        "step": step,
        "steps": steps,
        "loss": 1.0 * step,
        "count": 1.0 * step,
        "stale": 1,
    }
    for group in training["optimiser"]["param_groups"]:
        if schedule == "step" or group["part"] == "decoder":
            group["lr"] *= factor
    save_checkpoint(tmp_path / "run" / "last.pt", content)
    run(demo_input, tmp_path / "run", "--resume", **settings, **{"train.epochs": 2})
    rates = log_of(tmp_path / "run")[-1]["learning_rate"]
    for part in ("decoder", "fusion"):
        assert rates[part] == pytest.approx(0.0005 if part in falling else 0.001)


def test_refusals(tiny_run, demo_input, tmp_path):
    with pytest.raises(ValueError, match=r"tiny holds a run: go on with --resume"):
        run(demo_input, tiny_run)
    with pytest.raises(ValueError, match=r"other settings, model.width \(16 -> 32\): resume with the same"):
        run(demo_input, tiny_run, "--resume", **{"model.width": 32})
    with pytest.raises(
        FileNotFoundError, match=r"train.hdf5 not found: run tools/create_input_files.py first"
    ):
        run(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(ValueError, match=r"batch_size counts captions and must be at least 5, .* got 4"):
        run(demo_input, tmp_path / "run", **{"train.batch_size": 4})
    with pytest.raises(ValueError, match=r"max_length must be at least 50, .*train.hdf5, got 8"):
        run(demo_input, tmp_path / "run", **{"model.max_length": 8})
    with pytest.raises(ValueError, match="data.augment must name no map noise .*void: got .*map_void"):
        run(demo_input, tmp_path / "run", **{"data.augment": "[map_void]", "data.maps": "void"})
    with pytest.raises(ValueError, match="device tpu cannot be used"):
        run(demo_input, tmp_path / "run", **{"train.device": "tpu"})
    assert not (tmp_path / "run").exists()  # a refused run leaves nothing


def test_resume_refuses_other_validation_pairs(demo_input, tmp_path):
    shutil.copytree(demo_input, tmp_path / "input")
    run(tmp_path / "input", tmp_path / "run", **{"train.epochs": 1})
    with h5py.File(tmp_path / "input" / "val.hdf5", "r+") as file:
        file.attrs["fingerprint"] = "another"
    with pytest.raises(ValueError, match=r"val\.hdf5 is not the data that this run began with: put the old"):
        run(tmp_path / "input", tmp_path / "run", "--resume", **{"train.epochs": 2})


def test_resume_refuses_maps_of_another_detector(demo_input, tmp_path):
    shutil.copytree(demo_input, tmp_path / "input")

    def detect(width: int) -> None:
        save_tiny_detector(tmp_path / "detector.pt", demo_input, width=width)
        options = ["--checkpoint", str(tmp_path / "detector.pt"), "--data.dir", str(tmp_path / "input")]
        detect_maps.main([*options, "--data.workers", "0", "--split", "train", "val"])

    detect(width=8)
    settings = {"data.maps": "detected", "train.epochs": 1}
    run(tmp_path / "input", tmp_path / "run", **settings)
    detect(width=16)
    with pytest.raises(ValueError, match=r"train\.detected\.hdf5 is not the data that this run began with"):
        run(tmp_path / "input", tmp_path / "run", "--resume", **{**settings, "train.epochs": 2})


def test_run_stopped_before_validation_resumes_with_it(tiny_run, demo_input, tmp_path):
    """The state that train.py saves before validation: all steps of the epoch, but no score."""
    content = load_checkpoint(tiny_run / "last.pt")
    whole = content["training"]["progress"]
    run(demo_input, tmp_path / "run", **{"train.epochs": 1})
    before = load_checkpoint(tmp_path / "run" / "last.pt")
    log = log_of(tmp_path / "run")
    progress = {**before["training"]["progress"], "epoch": 1, "step": whole["steps"] // 2, "stale": 0}
    progress |= {"loss": log[0]["loss"], "count": 1.0, "best": float("-inf")}
    training = {**before["training"], "progress": progress}
    save_checkpoint(tmp_path / "run" / "last.pt", {**before, "epoch": 0, "training": training})
    run(demo_input, tmp_path / "run", "--resume", **{"train.epochs": 1})
    assert log_of(tmp_path / "run") == log
    after = load_checkpoint(tmp_path / "run" / "last.pt")
    assert after["training"]["progress"]["steps"] == whole["steps"] // 2


def test_progress_must_agree_over_processes(tmp_path):
    class Two:
        def gather(self, item):
            return [item, Progress(steps=3)]

    with pytest.raises(ValueError, match=r"same step, they are at 7, 3: give a --run_dir that all machines"):
        check_same_progress(Progress(steps=7), tmp_path, Two())


def test_resume_without_a_checkpoint_starts_with_a_remark(demo_input, tmp_path, capsys):
    run(demo_input, tmp_path / "run", "--resume", **{"train.epochs": 1})
    assert "no " in (message := capsys.readouterr()).err
    assert "last.pt: starting from the beginning" in message.err
    assert message.out.endswith(" on val, epochs: 1\n")


def test_errors_of_the_command_are_one_line():
    done = subprocess.run(
        [sys.executable, "train.py", *BASE, "--train.epochs", "0"],
        capture_output=True,
        text=True,
        cwd=CONFIGS.parent,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "train.epochs" in done.stderr


def test_loss_is_summed_over_real_words():
    model, views, tokens = tiny_model().eval(), random_views(2), random_tokens(2, 2, 7)
    tokens[..., 0] = START
    tokens[0, 0, 3:] = torch.tensor([END, PAD, PAD, PAD])
    total = 0.0
    for pair in range(2):
        for row in tokens[pair]:
            log_probs = model(views[pair : pair + 1], row[None, :-1]).log_softmax(-1)[0]
            total -= sum(log_probs[t, row[t + 1]] for t in range(6) if row[t + 1] != PAD)
    loss = CaptionLoss(PAD, "float32")(model, {"views": views, "tokens": tokens})
    torch.testing.assert_close(loss, total)


def test_all_captions_of_a_step_give_the_gradients_of_one_by_one():
    tokens, views = random_tokens(2, 3, 6), random_views(2)
    gradients = []
    for shown, read in ((views, tokens), (views.repeat_interleave(3, 0), tokens.flatten(0, 1).unsqueeze(1))):
        model = tiny_model().eval()  # BatchNorm of the batch would differ by design
        CaptionLoss(PAD, "float32")(model, {"views": shown, "tokens": read}).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        error = (gradients[1][name] - gradient).norm()
        assert error <= 1e-4 * gradient.norm() + 1e-5, name


def test_micro_batches_keep_the_colours_of_plain_views():
    views, tokens = random_views(4), random_tokens(4, 1, 6)
    views[0, 2:], views[3, 2:] = 0, 128
    batch = collate(
        [{"views": v, "tokens": t, "index": torch.tensor(0)} for v, t in zip(views, tokens, strict=True)]
    )
    computed, losses = [], []
    for accumulate in (1, 2):
        model, config = tiny_model().eval(), TrainConfig(accumulate=accumulate)
        model.encoder_sem.trunk.conv1.register_forward_hook(
            lambda module, args, output: computed.append(len(output))
        )
        progress, loss = Progress(), CaptionLoss(PAD, "float32")
        optimiser = make_optimiser(model, config)
        TrainingSteps(model, loss, optimiser, config, progress, Processes()).take_and_wait(batch)
        losses.append(progress.loss)
    assert computed == [6, 3, 3]  # each pair's two alike maps are computed once
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_decoders_rate_falls_after_every_third_stale_epoch():
    model, config = tiny_model(), TrainConfig(learning_rate=1.0)
    optimiser = make_optimiser(model, config)
    rates = []
    for stale in (0, 1, 2, 3, 4, 5, 6):
        decay_rates(optimiser, config, epochs=9, stale=stale)
        rates.append({group["part"]: group["lr"] for group in optimiser.param_groups})
    assert [rate["decoder"] for rate in rates] == pytest.approx([1, 1, 1, 0.7, 0.7, 0.7, 0.49])
    assert all(rate[part] == 1 for rate in rates for part in ("encoder_rgb", "encoder_sem", "fusion"))


def test_all_rates_fall_after_every_second_epoch():
    model = tiny_model()
    config = TrainConfig(learning_rate=1.0, schedule="step", decay=0.5, decay_patience=2)
    optimiser = make_optimiser(model, config)
    rates = []
    for epochs in range(6):
        decay_rates(optimiser, config, epochs=epochs, stale=1)
        (rate,) = {group["lr"] for group in optimiser.param_groups}
        rates.append(rate)
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("clip_fusion", [True, False])
def test_clipping(clip_fusion):
    model, config = tiny_model(), TrainConfig(clip_value=0.5, clip_fusion=clip_fusion)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -3.0)
    clip_gradients(make_optimiser(model, config), config)
    assert (model.decoder.output.weight.grad == -0.5).all()
    assert (model.encoder_sem.trunk.conv1.weight.grad == -0.5).all()
    assert (model.fusion.rows.grad == (-0.5 if clip_fusion else -3.0)).all()


def test_a_loss_that_is_not_finite_ends_the_run(demo_input, tmp_path):
    with pytest.raises(
        ValueError, match=r"step \d+ of epoch 1 has loss .* and .* norm .*lower train.learning_rate"
    ):
        run(demo_input, tmp_path / "run", **{"train.learning_rate": 1e30, "train.clip_value": 0})


@pytest.mark.slow
def test_training_on_kept_features_equals_training_with_the_trunk(demo_input, tmp_path):
    frozen = {"model.trained_from": "nothing", "model.dropout": 0.0, "model.embedding_dropout": 0.0}
    run(demo_input, tmp_path / "again", **frozen)
    run(demo_input, tmp_path / "kept", **frozen, **{"train.keep_features": "true"})
    again, kept = (log_of(tmp_path / name)[0]["loss"] for name in ("again", "kept"))
    assert kept == pytest.approx(again, rel=0.01)  # features are kept as bfloat16
