"""Checkpoints: content, atomic writing, loading and errors."""

import lzma
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import caption
import eval as evaluation
import train
from configs import Config, TrainConfig
from data.vocabulary import Vocabulary
from tests.conftest import CONFIGS
from tests.helpers.tiny import (
    AUTHORS,
    VOCABULARY_SIZE,
    WORDS,
    random_views,
    tiny_config,
    tiny_model,
    tiny_settings,
)
from tools import benchmark, detect_maps, robustness
from tools.engine.checkpoint import (
    FORMAT,
    load_checkpoint,
    restore_detector,
    restore_model,
    save_checkpoint,
    start_from,
)
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.run_state import restore

SAMPLE = Path(__file__).parents[1] / "samples" / "last_c36599d.pt.xz"  # what train.py wrote at commit c36599d


@cache
def tiny_state(**changes: Any) -> dict[str, torch.Tensor]:
    return tiny_model(**changes).state_dict()


def tiny_content(**changes: Any) -> dict[str, Any]:
    """The content of a checkpoint of a tiny captioning model."""
    return {
        "model": dict(tiny_state(**changes)),
        "config": Config(model=tiny_config(**changes)).to_dict(),
        "vocabulary": list(WORDS),
        "common_captions": [],
        "image_size": [64, 64],
    }


@pytest.mark.parametrize("variant", [{}, AUTHORS], ids=["paper", "authors"])
def test_saved_model_is_restored(tmp_path, variant):
    model = tiny_model(**variant).eval()
    save_checkpoint(tmp_path / "best.pt", tiny_content(**variant))
    restored, vocabulary = restore_model(load_checkpoint(tmp_path / "best.pt"), fold=False)
    folded, _ = restore_model(load_checkpoint(tmp_path / "best.pt"))
    assert vocabulary.words == tuple(WORDS)
    assert not restored.training
    views, expected = random_views(2), model.encode(random_views(2))
    torch.testing.assert_close(restored.encode(views), expected, rtol=0, atol=0)
    torch.testing.assert_close(folded.encode(views), expected, rtol=1e-4, atol=1e-4)
    assert any(isinstance(module, nn.BatchNorm2d) for module in restored.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_restoring_needs_no_trunk_weights():
    content = tiny_content()
    content["config"]["model"]["weights"] = "/gone/trunk.pt"
    restore_model(content)


def test_settings_missing_in_an_older_checkpoint_have_defaults(tmp_path):
    content = tiny_content()
    for name in ("modalities", "cmca", "udca", "mgca"):
        del content["config"]["model"][name]
    save_checkpoint(tmp_path / "best.pt", content)
    restored, vocabulary = restore_model(load_checkpoint(tmp_path / "best.pt"), fold=False)
    start_from(tmp_path / "best.pt", restored, tiny_config(), vocabulary)
    with pytest.raises(ValueError, match="best.pt was made with model.mgca True, not False: use the same"):
        start_from(tmp_path / "best.pt", restored, tiny_config(mgca=False), vocabulary)


@pytest.fixture
def old_checkpoint(tmp_path) -> Path:
    """The last.pt of commit c36599d, unpacked."""
    path = tmp_path / "last.pt"
    path.write_bytes(lzma.decompress(SAMPLE.read_bytes()))
    return path


def test_checkpoint_of_an_earlier_commit_gives_the_same_captions(old_checkpoint):
    model, vocabulary = restore_model(load_checkpoint(old_checkpoint))
    views = torch.arange(4 * 3 * 32 * 32).reshape(1, 4, 3, 32, 32).remainder(251).byte()
    answers = model.caption(views, start=vocabulary.start, end=vocabulary.end, beam_size=4)
    assert vocabulary.decode(answers[0][0].tokens) == "the scene is changed"
    assert answers[0][0].log_prob == pytest.approx(-6.40686, abs=1e-3)


def test_a_run_of_an_earlier_commit_can_be_resumed(old_checkpoint):
    content = load_checkpoint(old_checkpoint, training=True)
    model, _ = restore_model(content, fold=False)
    optimiser = make_optimiser(model, TrainConfig())
    progress = restore(content, model, optimiser, torch.amp.GradScaler("cpu", enabled=False), Processes())
    assert (progress.epoch, progress.steps) == (6, 35)
    moments = [state["exp_avg"] for state in optimiser.state.values()]
    assert sum(moment.any().item() for moment in moments) > 10


def test_checkpoint_is_replaced_atomically(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {**tiny_content(), "epoch": 1})
    with pytest.raises(AttributeError):  # a local function cannot be pickled: writing breaks off
        save_checkpoint(path, {**tiny_content(), "epoch": lambda: 2})
    content = load_checkpoint(path)
    assert (content["format"], content["epoch"], content["path"]) == (FORMAT, 1, str(path))


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"format": FORMAT, "model": Hostile(tmp_path / "owned")}, tmp_path / "bad.pt")
    with pytest.raises(
        ValueError, match=r"bad.pt is not a checkpoint of this project \(it holds \w+.mkdir\)"
    ):
        load_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^\S+x.pt is not a checkpoint of this project \([^\n]*\): give a best.pt"
    ):
        load_checkpoint(tmp_path / "x.pt")


def test_other_formats_and_absent_files(tmp_path):
    torch.save({"format": "other"}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="its format is 'other', expected 'mmodalcc-1'"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save({**tiny_content(), "format": "mmodalcc-2"}, tmp_path / "x.pt")
    with pytest.raises(
        ValueError, match="x.pt was written by a newer version .*'mmodalcc-2'.*: update the code"
    ):
        load_checkpoint(tmp_path / "x.pt")
    torch.save(tiny_content(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt is not a checkpoint .*its format is None"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save(tiny_model().state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt is not a checkpoint .*it holds weights alone"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt is not a checkpoint .*it holds a list"):
        load_checkpoint(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt not found: name one of .*/x\.pt$"):
        load_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(FileNotFoundError, match="nowhere.pt not found: train one with train.py"):
        load_checkpoint(tmp_path / "empty" / "nowhere.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"rnu/best.pt not found: name one of .*/run/best\.pt$"):
        load_checkpoint(tmp_path / "rnu" / "best.pt")
    with pytest.raises(ValueError, match="is a folder: name the best.pt in it"):
        load_checkpoint(tmp_path)


def without(part: str) -> Callable[[dict], Any]:
    return lambda content: content.pop(part)


def with_part(**parts: Any) -> Callable[[dict], Any]:
    return lambda content: content.update(parts)


def with_setting(section: str, name: str, value: Any) -> Callable[[dict], Any]:
    return lambda content: content["config"][section].update({name: value})


def renamed(old: str, new: str) -> Callable[[dict], Any]:
    def rename(content: dict) -> None:
        content["model"] = {name.replace(old, new): value for name, value in content["model"].items()}

    return rename


def with_weight(name: str, value: Any) -> Callable[[dict], Any]:
    return lambda content: content["model"].update({name: value})


MISFITS = {
    "no model": (without("model"), "its part model is missing"),
    "no config": (without("config"), "its part config is missing"),
    "no vocabulary": (without("vocabulary"), "its part vocabulary is missing"),
    "no image_size": (without("image_size"), "its part image_size is missing"),
    "config a list": (with_part(config=[1]), "its part config is a list, expected a dict"),
    "model a tensor": (with_part(model=torch.ones(1)), "its part model is a Tensor, expected a dict"),
    "vocabulary a dict": (with_part(vocabulary={"a": 1}), "its part vocabulary is not a list of texts"),
    "vocabulary of numbers": (with_part(vocabulary=[1, 2]), "vocabulary is not a list of texts"),
    "vocabulary without <end>": (with_part(vocabulary=WORDS[:-1]), "special tokens .*missing"),
    "vocabulary too long": (
        with_part(vocabulary=[*WORDS, "more"]),
        r"decoder.embedding.weight as float32 of shape \(12, 32\), expected float32 of shape \(13, 32\)",
    ),
    "constants a list": (with_part(train_constants=["a"]), "train_constants is not a text for each part"),
    "constants missing": (with_part(train_captions=["a"]), "train_constants has no caption for all pairs"),
    "mask_class unknown": (
        with_part(mask_class="castle"),
        "mask_class must be a class of the palette, got 'castle': choose from low vegetation",
    ),
    "metres_per_pixel negative": (with_part(metres_per_pixel=-1.0), "metres_per_pixel is not a positive"),
    "metres_per_pixel a text": (with_part(metres_per_pixel="0.5"), "not a positive number but '0.5'"),
    "mask_class a list": (with_part(mask_class=[1]), "mask_class must be a class of the palette"),
    "captions no texts": (with_part(common_captions=[None]), "common_captions is not a list of texts"),
    "image_size negative": (with_part(image_size=[64, -1]), r"image_size is not .*\[64, -1\]"),
    "image_size of text": (with_part(image_size=["a", "b"]), "image_size is not"),
    "image_size of three": (with_part(image_size=[64, 64, 3]), "image_size is not"),
    "no section": (lambda content: content["config"].pop("model"), "settings have no section model"),
    "new section": (
        lambda content: content["config"].update(extra={}),
        "a newer version wrote it, with the unknown section extra",
    ),
    "new setting": (
        with_setting("model", "rotary", True),
        "a newer version wrote it, with the unknown setting model.rotary",
    ),
    "setting out of range": (with_setting("model", "dropout", 2.0), "settings are not valid .*model.dropout"),
    "setting of another type": (with_setting("model", "width", "wide"), "not valid .*model.width"),
    "setting without meaning": (with_setting("model", "trunk", "vit"), "not valid .*model.trunk"),
    "settings at odds": (with_setting("model", "heads", 3), "not valid .*model.width must be"),
    "another task's settings": (with_setting("train", "select_on", "sek"), "train.select_on must be one of"),
    "renamed weights": (
        renamed("decoder.", "speaker."),
        r"its model lacks decoder.\S+ \(\d+ in all\)",
    ),
    "missing weight": (
        lambda content: content["model"].popitem(),
        r"its model lacks \S+ \(1 in all\)",
    ),
    "extra weight": (with_weight("more", torch.ones(1)), r"has the unknown weight more \(1 in all\)"),
    "other shape": (
        with_setting("model", "feedforward", 16),
        r"has \S+ as float32 of shape .* expected float32",
    ),
    "other precision": (
        with_weight("decoder.output.bias", torch.ones(VOCABULARY_SIZE).half()),
        "decoder.output.bias as float16",
    ),
    "weight without values": (
        with_weight("decoder.output.bias", torch.ones(VOCABULARY_SIZE, device="meta")),
        "has decoder.output.bias without its values",
    ),
    "weight no tensor": (
        with_weight("decoder.output.bias", 1),
        "has decoder.output.bias as int, expected float32",
    ),
}


def changed_checkpoint(path: Path, content: dict[str, Any], change: Callable[[dict], Any]) -> Path:
    change(content)
    save_checkpoint(path, content)
    return path


@pytest.mark.parametrize(("change", "reason"), MISFITS.values(), ids=list(MISFITS))
def test_content_that_does_not_fit_is_named(tmp_path, change, reason):
    path = changed_checkpoint(tmp_path / "x.pt", tiny_content(), change)
    with pytest.raises(
        ValueError, match=rf"^\S+x.pt does not fit this version of the code, .*{reason}"
    ) as error:
        restore_model(load_checkpoint(path))
    assert "give another best.pt or last.pt, or use the version that wrote it" in str(error.value)


def test_model_of_another_task_is_refused_with_its_file(tmp_path):
    detector = Config(
        model=tiny_config(name="change_detector", width=8), train=TrainConfig(select_on="sek")
    ).to_dict()
    state = tiny_model(name="change_detector", width=8).state_dict()
    save_checkpoint(tmp_path / "detector.pt", {"model": state, "config": detector, "image_size": [64, 64]})
    save_checkpoint(tmp_path / "captioner.pt", tiny_content())
    restore_detector(load_checkpoint(tmp_path / "detector.pt"))
    with pytest.raises(ValueError, match="captioning model is needed, .*detector.pt holds change_detector"):
        restore_model(load_checkpoint(tmp_path / "detector.pt"))
    with pytest.raises(ValueError, match="change detector is needed, .*captioner.pt holds mmodalcc: train"):
        restore_detector(load_checkpoint(tmp_path / "captioner.pt"))


COMMANDS = {
    "caption": lambda path, run, pair: caption.main([*pair, "--checkpoint", path]),
    "detector": lambda path, run, pair: caption.main(
        [*pair, "--checkpoint", str(run / "best.pt"), "--detector", path]
    ),
    "eval": lambda path, run, pair: evaluation.main(["--checkpoint", path]),
    "detect_maps": lambda path, run, pair: detect_maps.main(["--checkpoint", path]),
    "robustness": lambda path, run, pair: robustness.main(["--checkpoint", path]),
    "benchmark": lambda path, run, pair: benchmark.main(["--checkpoint", path, "--parts", "caption"]),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
@pytest.mark.parametrize("kind", ["new setting", "renamed weights", "no image_size"])
def test_every_command_names_the_file(tiny_run, demo_input, tmp_path, command, kind):
    change, _ = MISFITS[kind]
    content = load_checkpoint(tiny_run / "best.pt")
    if command is COMMANDS["detect_maps"] or command is COMMANDS["detector"]:
        content["config"] = Config(
            model=tiny_config(name="change_detector", width=8), train=TrainConfig(select_on="sek")
        ).to_dict()
        content["model"] = {
            f"decoder.{name}": value
            for name, value in tiny_model(name="change_detector", width=8).state_dict().items()
        }
    path = changed_checkpoint(tmp_path / "x.pt", content, change)
    test = demo_input.parent / "dataset" / "test" / "rgb"
    pair = [str(sorted((test / date).iterdir())[0]) for date in "AB"]
    with pytest.raises(ValueError, match=r"x.pt does not fit this version of the code, "):
        command(str(path), tiny_run, pair)


@pytest.mark.parametrize("kind", ["new setting", "renamed weights", "no config"])
def test_training_names_the_file_that_it_starts_from(tiny_run, demo_input, tmp_path, kind):
    path = changed_checkpoint(tmp_path / "x.pt", load_checkpoint(tiny_run / "best.pt"), MISFITS[kind][0])
    settings = tiny_settings(demo_input, **{"train.start_from": path})
    with pytest.raises(ValueError, match="x.pt does not fit this version of the code"):
        train.main(
            ["--config", str(CONFIGS / "second_cc.yaml"), *settings, "--run_dir", str(tmp_path / "run")]
        )


def test_weights_for_another_number_of_words_are_refused_where_the_words_differ(tmp_path):
    save_checkpoint(tmp_path / "x.pt", {**tiny_content(), "vocabulary": [*WORDS, "more"]})
    words = ["<pad>", *(f"x{index}" for index in range(VOCABULARY_SIZE - 4)), "<unk>", "<start>", "<end>"]
    with pytest.raises(ValueError, match=r"x.pt does not fit .*decoder.embedding.weight .*expected .*13, 32"):
        start_from(tmp_path / "x.pt", tiny_model(), tiny_config(), Vocabulary(words))


TRAINING_MISFITS = {
    "new setting": (MISFITS["new setting"][0], "newer version wrote it"),
    "renamed weights": (MISFITS["renamed weights"][0], "its model lacks"),
    "best.pt": (without("training"), "no training state, which only last.pt has"),
    "no epoch": (without("epoch"), "its part epoch is missing"),
    "no optimiser": (lambda content: content["training"].pop("optimiser"), "part optimiser is missing"),
    "no progress": (lambda content: content["training"].pop("progress"), "part progress is missing"),
    "no random": (lambda content: content["training"].pop("random"), "part random is missing"),
    "new progress": (lambda content: content["training"]["progress"].update(luck=1), "restored .*luck"),
    "progress of text": (lambda content: content["training"]["progress"].update(step="a"), "progress.step"),
    "random of text": (lambda content: content["training"].update(random=["a"]), "cannot be restored"),
    "random cut": (lambda content: content["training"]["random"][0].pop("numpy"), "restored .*numpy"),
    "optimiser without groups": (
        lambda content: content["training"]["optimiser"].update(param_groups=[]),
        "training state cannot be restored",
    ),
    "optimiser without rate": (
        lambda content: content["training"]["optimiser"]["param_groups"][0].pop("lr"),
        r"group \S+ lacks lr",
    ),
    "moments of another shape": (
        lambda content: content["training"]["optimiser"]["state"][0].update(exp_avg=torch.ones(3)),
        r"exp_avg has shape \(3,\)",
    ),
}


@pytest.mark.parametrize(("change", "reason"), TRAINING_MISFITS.values(), ids=list(TRAINING_MISFITS))
def test_a_training_state_that_does_not_fit_is_named(tiny_run, demo_input, tmp_path, change, reason):
    (tmp_path / "run").mkdir()
    changed_checkpoint(tmp_path / "run" / "last.pt", load_checkpoint(tiny_run / "last.pt"), change)
    argv = ["--config", str(CONFIGS / "second_cc.yaml"), *tiny_settings(demo_input, **{"train.epochs": 3})]
    with pytest.raises(ValueError, match=f"run/last.pt does not fit this version of the code, .*{reason}"):
        train.main([*argv, "--run_dir", str(tmp_path / "run"), "--resume"])
