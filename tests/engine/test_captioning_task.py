"""Validation of captioning: scores, floors and MGCA's gates."""

import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import Config, TrainConfig
from tools.engine.captioning_task import CaptioningTask
from tools.engine.checkpoint import load_checkpoint, restore_model
from tools.engine.distributed import Processes
from tools.engine.run_folder import RunFolder
from tools.engine.training_data import open_samples
from tools.scoring.facts import Facts
from tools.scoring.metrics import measure
from tools.scoring.own_pair import OwnPair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def task_and_model(tiny_run):
    content = load_checkpoint(tiny_run / "best.pt")
    config = Config.from_dict(content["config"])
    task = CaptioningTask(config, open_samples("train", config), open_samples("val", config), Processes())
    return task, restore_model(content)[0]


def test_the_log_has_both_floors_beside_the_scores(tiny_run):
    lines = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    for floor in ("floor", "floor_oracle"):
        assert lines[0][floor] == lines[1][floor]
        assert lines[0][floor].keys() == lines[0]["val"].keys()
    assert lines[0]["floor_oracle"]["s_m"] >= lines[0]["floor"]["s_m"]
    captions = json.loads((tiny_run / "val_captions.json").read_text())
    assert lines[1]["distinct_captions"] == len({caption["caption"] for caption in captions})


def test_constant_training_caption_never_exceeds_the_oracle(task_and_model):
    task, _ = task_and_model
    reader, rows = task.val_samples.reader, task.val_samples.rows
    with task:
        s_m = {}
        for caption in task.training.captions:
            segments = [(caption, tuple(reader.references[row])) for row in rows]
            s_m[caption] = measure(segments, task.meteor).scores(np.ones(len(segments)))["s_m"]
        floors = task.floors
    assert floors["floor_oracle"]["s_m"] == pytest.approx(max(s_m.values()))
    assert floors["floor"]["s_m"] == pytest.approx(s_m[task.training.best["all"]])


def test_a_metric_without_a_value_is_refused_before_training(tiny_run):
    content = load_checkpoint(tiny_run / "best.pt")
    stored = {**content["config"], "train": {**content["config"]["train"], "select_on": "cider"}}
    config = Config.from_dict(stored)
    val_samples = open_samples("val", config)
    val_samples.rows = [row for row in val_samples.rows if not val_samples.reader.changed[row]]
    task = CaptioningTask(config, open_samples("train", config), val_samples, Processes())
    with (
        pytest.raises(ValueError, match="train.select_on cider has no value .*left out.*choose another"),
        task,
    ):
        pass


@pytest.mark.parametrize("score", ["fact_f1", "fact_f05", "own_pair"])
def test_validation_logs_the_fact_scores_that_training_may_select_on(task_and_model, tiny_run, score):
    assert TrainConfig(select_on=score).select_on == score
    line = json.loads((tiny_run / "log.jsonl").read_text().splitlines()[-1])
    captions = json.loads((tiny_run / "val_captions.json").read_text())
    segments = [(entry["caption"], tuple(entry["references"])) for entry in captions]
    metric = OwnPair() if score == "own_pair" else Facts()
    expected = 100 * metric.scores(metric.rows(segments).sum(0), len(segments))[score]
    assert line["val"][score] == pytest.approx(float(expected))
    assert score in line["floor"]


def test_fact_scores_without_word_lists_are_refused_before_training(tiny_run):
    stored = load_checkpoint(tiny_run / "best.pt")["config"]
    train = {**stored["train"], "select_on": "fact_f1"}
    config = Config.from_dict({**stored, "train": train, "data": {**stored["data"], "facts": "none"}})
    task = CaptioningTask(config, open_samples("train", config), open_samples("val", config), Processes())
    message = r"train.select_on fact_f1 has no value .*\(no fact scores: data.facts is none\).*choose another"
    with pytest.raises(ValueError, match=message), task:
        pass


@pytest.mark.parametrize(("given", "remedy"), [(["all alike"], "leave data.no_change out"), (None, None)])
def test_no_change_sentences_missing_in_training_are_reported(tiny_run, given, remedy):
    content = load_checkpoint(tiny_run / "best.pt")
    config = Config.from_dict(
        {**content["config"], "data": {**content["config"]["data"], "no_change": given}}
    )
    task = CaptioningTask(config, open_samples("train", config), open_samples("val", config), Processes())
    assert [remedy in line for line in task.remarks()] == ([True] if remedy else [])
    assert task.content()["no_change"] == (given or content["no_change"])


def test_training_warns_if_a_constant_caption_is_as_good(tmp_path, capsys):
    folder = RunFolder(tmp_path / "run", Config(train=TrainConfig(select_on="s_m")), resume=False)
    folder.begin("data", [])
    line = {"epoch": 1, "loss": 1.0, "seconds": 1, "best": True, "distinct_captions": 2}
    floors = {"floor": {"s_m": 30.0}, "floor_oracle": {"s_m": 40.0}}
    for s_m, warned in ((39.0, True), (40.0, True), (41.0, False)):
        folder.write_epoch(1, {**line, **floors, "val": {"s_m": s_m}}, [])
        message = capsys.readouterr().err
        assert ("WARNING: no better than a constant caption" in message) is warned
        assert "floor's s_m 30.0, floor_oracle's 40.0" in message


def test_gates_are_the_mean_over_the_words_of_each_caption(task_and_model):
    task, model = task_and_model
    captions = [[5, 6, 7], [8], []]
    gates = task.gates(model, captions)
    seen = []
    for pair, caption in enumerate(captions):
        tokens = torch.tensor([[[task.vocabulary.start, *caption]]])
        actual = model.explain(task.val_samples[pair]["views"].unsqueeze(0), tokens).gates
        seen += torch.stack(list(actual.values()), dim=-1).flatten(0, 2)
    expected = torch.stack(seen).mean(0)
    assert len(seen) == 7  # a word is chosen after each token, the last is <end>
    assert list(gates) == ["rgb", "sem", "word"]
    assert list(gates.values()) == pytest.approx(expected.tolist(), rel=1e-3)


def test_tensorboard_shows_scores_floor_gates_and_captions(tiny_run):
    events = EventAccumulator(str(tiny_run))
    events.Reload()
    tags = events.Tags()
    scalars = {
        "val/s_m",
        "floor/s_m",
        "floor_oracle/s_m",
        "gates/rgb",
        "gates/sem",
        "gates/word",
        "loss",
        "step/loss",
    }
    assert scalars | {"step/gradient_norm", "learning_rate/decoder"} <= set(tags["scalars"])
    assert len(events.Scalars("floor/s_m")) == 2
    assert any(tag.startswith("captions/") for tag in tags["tensors"])
