"""Checkpoints: plain content, whole files, clear refusals."""

import os

import pytest
import torch

from configs import Config
from models.checkpoint import FORMAT, load_checkpoint, restore_model, save_checkpoint, start_from
from tests.tiny import RELEASED, VOCABULARY_SIZE, random_views, tiny_config, tiny_model

WORDS = ["<pad>", *(f"w{i}" for i in range(VOCABULARY_SIZE - 4)), "<unk>", "<start>", "<end>"]


@pytest.mark.parametrize("variant", [{}, RELEASED], ids=["paper", "released"])
def test_a_saved_model_comes_back(tmp_path, variant):
    model = tiny_model(**variant).eval()
    content = {"model": model.state_dict(), "vocabulary": WORDS}
    content["config"] = Config(model=tiny_config(**variant)).to_dict()
    save_checkpoint(tmp_path / "best.pt", content)
    restored, vocabulary = restore_model(load_checkpoint(tmp_path / "best.pt"), fold=False)
    folded, _ = restore_model(load_checkpoint(tmp_path / "best.pt"))
    assert vocabulary.words == tuple(WORDS)
    assert not restored.training
    views, expected = random_views(2), model.encode(random_views(2))
    torch.testing.assert_close(restored.encode(views), expected, rtol=0, atol=0)
    torch.testing.assert_close(folded.encode(views), expected, rtol=1e-4, atol=1e-4)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in one.modules()) for one in (restored, folded)]
    assert norms[0] > 0
    assert norms[1] == 0


def test_restoring_needs_no_trunk_weights(tmp_path):
    config = Config(model=tiny_config(weights="/gone/trunk.pt")).to_dict()
    content = {"model": tiny_model().state_dict(), "vocabulary": WORDS, "config": config}
    restore_model(content)


def test_settings_that_an_older_checkpoint_lacks_have_their_defaults(tmp_path):
    config = Config(model=tiny_config()).to_dict()
    for name in ("modalities", "cmca", "udca", "mgca"):
        del config["model"][name]
    content = {"model": tiny_model().state_dict(), "vocabulary": WORDS, "config": config}
    save_checkpoint(tmp_path / "best.pt", content)
    restored, vocabulary = restore_model(load_checkpoint(tmp_path / "best.pt"), fold=False)
    start_from(tmp_path / "best.pt", restored, tiny_config(), vocabulary)
    with pytest.raises(ValueError, match="best.pt was made with model.mgca True, not False: use the same"):
        start_from(tmp_path / "best.pt", restored, tiny_config(mgca=False), vocabulary)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(AttributeError):  # a local function cannot be pickled: writing breaks off
        save_checkpoint(path, {"epoch": lambda: 2})
    assert load_checkpoint(path) == {"format": FORMAT, "epoch": 1}


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"format": FORMAT, "model": Hostile(tmp_path / "owned")}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt is no checkpoint of this code \(it holds \w+.mkdir\)"):
        load_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^\S+x.pt is no checkpoint of this code \([^\n]*\): give a best.pt"
    ):
        load_checkpoint(tmp_path / "x.pt")


def test_other_formats_and_absent_files(tmp_path):
    torch.save({"format": "other"}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="format 'other' where 'mmodalcc-1' is read"):
        load_checkpoint(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match="nowhere.pt not found: train one with train.py"):
        load_checkpoint(tmp_path / "nowhere.pt")
