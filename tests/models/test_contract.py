"""Tests that every captioning model must pass; a new file of models/ is tested automatically."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

import caption
import train
from configs import Config
from configs.command_line import CommandLine
from data.hdf5 import VIEWS
from data.vocabulary import Vocabulary
from models import build_model, model_class, model_names
from models.captioner import Captioner
from models.word_weights import word_dimensions
from tests.helpers.tiny import (
    END,
    PAD,
    START,
    VOCABULARY_SIZE,
    WORDS,
    random_tokens,
    random_views,
    tiny_config,
    tiny_model,
    tiny_settings,
)
from tools.engine.checkpoint import load_checkpoint, restore_model, save_checkpoint, start_from

NAMES = [name for name in model_names() if model_class(name).Settings.task == "captioning"]
pytestmark = pytest.mark.parametrize("name", NAMES)


def model_of(name: str) -> Captioner:
    return tiny_model(name=name).eval()


def test_settings_have_the_models_name_and_help_texts(name):
    assert model_class(name).Settings().name == name
    parser = CommandLine(None, "model")
    parser.read_section(["--model.name", name], {})
    options = {action.dest: action.help for action in parser._actions if action.dest.startswith("model.")}
    assert "model.trunk" in options
    without = [option for option, text in options.items() if not text]
    assert not without, f"write a docstring, the help text, below each of these settings: {without}"


def test_model_depends_only_on_its_views(name):
    model, views, tokens = model_of(name), random_views(1), random_tokens(1, 4)
    logits = model(views, tokens)
    for number, view in enumerate(VIEWS):
        other = views.clone()
        other[:, number] = 255 - other[:, number]
        unused = torch.equal(model(other, tokens), logits)
        assert unused == (view not in model.views), f"`views` must name the views that the model uses: {view}"


@torch.no_grad()
def test_steps_equal_teacher_forcing(name):
    model, tokens = model_of(name), random_tokens(3, 2, 6)
    memory = model.encode(random_views(3))
    tokens[..., 0] = START
    expected = model.decoder(tokens, memory).log_softmax(-1)
    log_probs, state = model.decoder.step(tokens[:, :1, 0], model.decoder.start(memory))
    torch.testing.assert_close(log_probs, expected[:, :1, 0], rtol=1e-4, atol=1e-5)
    state = state.reorder(torch.arange(3).unsqueeze(1).expand(-1, 2))  # both beams begin as one
    for t in range(1, 6):
        log_probs, state = model.decoder.step(tokens[..., t], state)
        torch.testing.assert_close(log_probs, expected[..., t, :], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_reorder_moves_beams_and_drops_pairs(name):
    model, tokens = model_of(name), random_tokens(3, 2, 3)
    memory = model.encode(random_views(3))
    tokens[..., 0] = START
    _, state = model.decoder.step(tokens[:, :1, 0], model.decoder.start(memory))
    state = state.reorder(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    _, state = model.decoder.step(tokens[..., 1], state)
    state = state.reorder(torch.tensor([[1, 0], [5, 4]]))  # pair 1 leaves, the others swap their beams
    log_probs, _ = model.decoder.step(tokens[[0, 2]][:, [1, 0], 2], state)
    expected = model.decoder(tokens[[0, 2]][:, [1, 0]], memory[[0, 2]]).log_softmax(-1)[:, :, 2]
    torch.testing.assert_close(log_probs, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_batch_equals_its_pairs_one_by_one(name):
    model, views, tokens = model_of(name), random_views(3), random_tokens(3, 2, 5)
    alone = torch.cat([model(views[i : i + 1], tokens[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(views, tokens), alone, rtol=1e-4, atol=1e-5)
    by_caption = torch.stack([model(views, tokens[:, k]) for k in range(2)], dim=1)
    torch.testing.assert_close(model(views, tokens), by_caption, rtol=1e-4, atol=1e-5)


def test_captions_of_a_batch_equal_those_of_its_pairs(name):
    model, views = model_of(name), random_views(3)
    search = {"start": START, "end": END, "beam_size": 3, "best": 3}
    together = model.caption(views, **search)
    for number, ranked in enumerate(together):
        (alone,) = model.caption(views[number : number + 1], **search)
        assert [answer.tokens for answer in ranked] == [answer.tokens for answer in alone]
        for answer, other in zip(ranked, alone, strict=True):
            assert answer.log_prob == pytest.approx(other.log_prob, abs=1e-4)
            assert len(answer.tokens) <= model.settings.max_length + 1


def test_every_parameter_gets_a_gradient(name):
    model = tiny_model(name=name).train()
    model(random_views(3), random_tokens(3, 2, 6)).square().sum().backward()
    learning = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert learning
    without = [key for key, value in learning.items() if value.grad is None]
    assert not without, f"use these parameters in the forward pass, they get no gradient: {without}"


def test_optimiser_has_every_parameter_once(name):
    model = tiny_model(name=name)
    parts = [parameter for part in model.parts().values() for parameter in part.parameters()]
    assert "decoder" in model.parts(), "parts() must have a part named decoder, whose learning rate decays"
    assert len(parts) == len({id(parameter) for parameter in parts})
    assert {id(parameter) for parameter in parts} == {id(parameter) for parameter in model.parameters()}


@torch.no_grad()
def test_later_words_and_padding_do_not_change_earlier_logits(name):
    model, views, tokens = model_of(name), random_views(2), random_tokens(2, 6)
    logits = model(views, tokens)
    changed = tokens.clone()
    changed[:, 4:] = PAD
    torch.testing.assert_close(model(views, changed)[:, :4], logits[:, :4], rtol=0, atol=1e-6)
    padded = model(views, F.pad(tokens, (0, 2), value=PAD))
    torch.testing.assert_close(padded[:, :6], logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_replace_views(name):
    model, views, tokens = model_of(name), random_views(2), random_tokens(2, 5)
    features = model.features(views)
    torch.testing.assert_close(model.fuse(features), model.encode(views), rtol=0, atol=0)
    torch.testing.assert_close(model(None, tokens, features=features), model(views, tokens), rtol=0, atol=0)
    perturbed = views.clone()
    perturbed[0, 1] = 255 - perturbed[0, 1]
    differs = (perturbed != views).flatten(2).any(-1)
    mixed = model.mixed_features(features, perturbed, differs)
    torch.testing.assert_close(mixed, model.features(perturbed), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_checkpoint_restores_the_model(name, tmp_path):
    model = model_of(name)
    words = [f"word{number}" for number in range(1, VOCABULARY_SIZE - 3)]
    words = ["<pad>", *words, "<unk>", "<start>", "<end>"]
    content = {
        "model": model.state_dict(),
        "config": Config(model=tiny_config(name)).to_dict(),
        "vocabulary": words,
        "image_size": [64, 64],
    }
    save_checkpoint(tmp_path / "best.pt", content)
    restored, vocabulary = restore_model(load_checkpoint(tmp_path / "best.pt"), fold=False)
    assert vocabulary.words == tuple(words)
    assert restored.settings == model.settings
    views, tokens = random_views(2), random_tokens(2, 5)
    torch.testing.assert_close(restored(views, tokens), model(views, tokens), rtol=0, atol=0)
    folded, _ = restore_model(load_checkpoint(tmp_path / "best.pt"))
    torch.testing.assert_close(folded(views, tokens), model(views, tokens), rtol=1e-3, atol=1e-3)


def run_training(name: str, folder: Path, run_dir: Path, *options: str, **changes: object) -> None:
    """train.py for epochs of two steps."""
    config = run_dir.with_suffix(".yaml")
    config.write_text(yaml.safe_dump({"model": {"name": name}}))
    settings = tiny_settings(folder, name, **{"train.epochs": 1, "train.batch_size": 60, **changes})
    train.main(["--config", str(config), *settings, "--run_dir", str(run_dir), *options])


@pytest.mark.slow
def test_training_and_captioning(name, demo_input, tmp_path, capsys):
    run_training(name, demo_input, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pt", training=True)["training"]["progress"]["steps"] == 2
    capsys.readouterr()
    dataset = demo_input.parent / "dataset" / "test"
    files = [sorted((dataset / folder).iterdir())[0] for folder in ("rgb/A", "rgb/B", "sem/A", "sem/B")]
    argv = [*map(str, files), "--checkpoint", str(tmp_path / "run" / "best.pt")]
    caption.main(argv)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run(name, demo_input, tmp_path):
    run_training(name, demo_input, tmp_path / "whole", **{"train.epochs": 2})
    run_training(name, demo_input, tmp_path / "parts")
    run_training(name, demo_input, tmp_path / "parts", "--resume", **{"train.epochs": 2})
    logs = []
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for line in lines:
            del line["seconds"]
        logs.append(lines)
    assert logs[0] == logs[1]
    whole, parts = (load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("whole", "parts"))
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


OTHER_WORDS = ["<pad>", "w5", *(f"new{index}" for index in range(6)), "w2", "<end>", "<unk>", "<start>", "w0"]


def test_training_on_other_words_keeps_the_weights_of_common_words(name, tmp_path):
    old, new = Vocabulary(WORDS), Vocabulary(OTHER_WORDS)
    given = tiny_model(name=name).state_dict()
    content = {"model": given, "config": Config(model=tiny_config(name)).to_dict()}
    save_checkpoint(tmp_path / "old.pt", {**content, "vocabulary": WORDS, "image_size": [64, 64]})
    torch.manual_seed(1)
    model = build_model(tiny_config(name), len(new))
    fresh = {key: weight.clone() for key, weight in model.state_dict().items()}
    (line,) = start_from(tmp_path / "old.pt", model, tiny_config(name), new)
    assert line.endswith(
        "words with the weights of the checkpoint: 3 of 9, new words with random weights: 6, words of the "
        "checkpoint that the data lack: 5"
    )
    trained, axes = model.state_dict(), word_dimensions(tiny_config(name))
    assert {"decoder.embedding.weight", "decoder.output.weight"} <= set(axes)
    old_ids = old.to_word_map()
    for key, weight in trained.items():
        if key not in axes:
            assert torch.equal(weight, given[key]), key
            continue
        for index, word in enumerate(new.words):
            expected = given[key].select(axes[key], old_ids[word]) if word in old_ids else None
            expected = fresh[key].select(axes[key], index) if expected is None else expected
            assert torch.equal(weight.select(axes[key], index), expected), (key, word)
