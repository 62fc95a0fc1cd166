"""What an epoch of captioning is judged by: scores, their floor, MGCA's gates."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import Config, from_dict
from data.dataset import open_samples
from models.checkpoint import load_checkpoint, restore_model
from tools.captioning_task import CaptioningTask
from tools.processes import Processes


@pytest.fixture(scope="module")
def task_and_model(tiny_run):
    content = load_checkpoint(tiny_run / "best.pt")
    config = Config(**from_dict(content["config"]))
    task = CaptioningTask(config, open_samples("train", config), open_samples("val", config), Processes())
    return task, restore_model(content)[0]


def test_the_log_has_the_floor_beside_the_scores(tiny_run):
    lines = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    assert lines[0]["floor"] == lines[1]["floor"]
    assert lines[0]["floor"].keys() == lines[0]["val"].keys()
    captions = json.loads((tiny_run / "val_captions.json").read_text())
    assert lines[1]["distinct_captions"] == len({caption["caption"] for caption in captions})


def test_a_collapsed_model_that_says_the_floors_caption_scores_the_floor(task_and_model):
    task, _ = task_and_model
    reader, rows = task.val_samples.reader, task.val_samples.rows
    with task:
        segments = [("the scene is the same as before", tuple(reader.references[row])) for row in rows]
        floor = task._floor(segments)
        assert task._scores(segments)["s_m"] <= floor["s_m"]
        said = [task._scores([(s, r) for _, r in segments])["s_m"] for s in task.no_change]
    assert floor["s_m"] == pytest.approx(max(said))


def test_gates_are_the_mean_over_the_words_of_each_caption(task_and_model):
    task, model = task_and_model
    captions = [[5, 6, 7], [8], []]
    gates = task.gates(model, captions)
    seen = []
    for pair, caption in enumerate(captions):
        tokens = torch.tensor([[[task.vocabulary.start, *caption]]])
        found = model.attention(task.val_samples[pair]["views"].unsqueeze(0), tokens).gates
        seen += torch.stack(list(found.values()), dim=-1).flatten(0, 2)
    expected = torch.stack(seen).mean(0)
    assert len(seen) == 7  # a word is chosen after each token, the last is <end>
    assert list(gates) == ["rgb", "sem", "word"]
    assert list(gates.values()) == pytest.approx(expected.tolist(), rel=1e-3)


def test_tensorboard_shows_scores_floor_gates_and_captions(tiny_run):
    events = EventAccumulator(str(tiny_run))
    events.Reload()
    tags = events.Tags()
    scalars = {"val/s_m", "floor/s_m", "gates/rgb", "gates/sem", "gates/word", "loss", "step/loss"}
    assert scalars | {"step/gradient_norm", "learning_rate/decoder"} <= set(tags["scalars"])
    assert len(events.Scalars("floor/s_m")) == 2
    assert any(tag.startswith("captions/") for tag in tags["tensors"])
