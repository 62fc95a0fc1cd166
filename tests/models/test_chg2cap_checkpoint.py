"""Checkpoints in the layout of Chg2Cap's code: conversion to our model, and files that are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.command_line import load
from data.errors import UserError
from models import build_model
from models.authors.chg2cap_checkpoint import (
    chg2cap_name,
    chg2cap_state,
    read_chg2cap_checkpoint,
    read_chg2cap_words,
)
from models.authors.rival_names import TABLE_NAMES
from models.chg2cap import Settings
from models.decoder import sinusoids
from tests.conftest import CONFIGS
from tests.helpers.tiny import random_views
from tools import import_authors
from tools.engine.checkpoint import load_checkpoint, restore_model

FULL = load(CONFIGS / "rivals" / "chg2cap.yaml").model
SETTINGS = replace(
    FULL, trunk="resnet18", width=16, attention_width=16, feedforward=8, heads=2, weights="none"
)
WORDS = 9


def authors_content(settings: Settings) -> dict[str, dict[str, Tensor]]:
    """A checkpoint of random weights with the names and shapes of the authors' code, unused ones included."""
    torch.manual_seed(0)
    content = {"encoder_dict": {}, "encoder_trans_dict": {}, "decoder_dict": {}}
    with torch.device("meta"):  # for the shapes
        model = build_model(settings, WORDS, pretrained=False)
    for name, tensor in model.state_dict().items():
        part, _, theirs = chg2cap_name(name).partition(".")
        shape = (16, tensor.shape[1]) if theirs in TABLE_NAMES else tensor.shape
        value = torch.rand(shape) if tensor.is_floating_point() else torch.tensor(1)
        content[part][theirs] = value
    content["encoder_trans_dict"]["selftrans.0.0.att.to_v.weight"] = torch.rand(16, 512)
    content["decoder_dict"]["transformer.layers.0.fc_alpha1.weight"] = torch.rand(16, 32)
    content["decoder_dict"]["position_encoding.pe"] = sinusoids(41, settings.width).unsqueeze(1)
    return content


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chg2cap") / "theirs.pth"
    torch.save(authors_content(SETTINGS), path)
    return path


@torch.no_grad()
def test_every_weight_reaches_its_place(path):
    state = chg2cap_state(read_chg2cap_checkpoint(path), SETTINGS, WORDS)
    model = build_model(SETTINGS, WORDS).eval()
    model.load_state_dict(state)
    content = authors_content(SETTINGS)
    for name, value in state.items():
        part, _, theirs = chg2cap_name(name).partition(".")
        given = content[part][theirs]
        if name == "fusion.block.conv.3.weight":
            given = given.transpose(2, 3)
        assert torch.equal(value, given[: len(value)] if given.dim() else given), name
    assert len(model.caption(random_views(1), start=2, end=3, beam_size=2)) == 1


def test_names_of_the_parts():
    assert chg2cap_name("encoder.trunk.layer4.0.conv1.weight") == "encoder_dict.cnn.7.0.conv1.weight"
    assert chg2cap_name("fusion.columns") == "encoder_trans_dict.h_embedding.weight"
    assert chg2cap_name("fusion.join.bias") == "decoder_dict.Conv1.bias"
    assert chg2cap_name("decoder.output.weight") == "decoder_dict.wdc.weight"


CHANGES = {  # of a file -> the message
    "pe of the checkpoint are not the sinusoids": lambda content: content["decoder_dict"].update(
        {"position_encoding.pe": torch.rand(41, 1, 16)}
    ),
    r"h_embedding.weight as .*\(512,\)": lambda content: content["encoder_trans_dict"].update(
        {"h_embedding.weight": torch.rand(512)}
    ),
    r"Conv1.weight as .*\(1024, 16, 1, 1\)": lambda content: content["decoder_dict"].update(
        {"Conv1.weight": torch.rand(1024, 16, 1, 1)}
    ),
    "lacks decoder_dict.wdc.bias": lambda content: content["decoder_dict"].pop("wdc.bias"),
    "unknown weight decoder_dict.gate": lambda content: content["decoder_dict"].update(gate=torch.rand(1)),
    "has no encoder_trans_dict": lambda content: content.pop("encoder_trans_dict"),
    "decoder_dict.step is not a tensor": lambda content: content["decoder_dict"].update(step=1),
    r"Conv1.bias as .*\(3,\)": lambda content: content["decoder_dict"].update({"Conv1.bias": torch.rand(3)}),
    r"LN.left.3.weight as .*\(8,\)": lambda content: content["decoder_dict"].update(
        {"LN.left.3.weight": torch.rand(8)}
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_files_are_refused(message, tmp_path):
    content = authors_content(SETTINGS)
    CHANGES[message](content)
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=message):
        chg2cap_state(read_chg2cap_checkpoint(tmp_path / "other.pth"), SETTINGS, WORDS)


def test_files_without_tensors_are_refused(tmp_path):
    torch.save({"encoder_dict": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"is refused \(.*Linear\): it may hold only tensors"):
        read_chg2cap_checkpoint(tmp_path / "module.pth")
    with pytest.raises(FileNotFoundError, match="nowhere.pth not found: give a checkpoint of Chg2Cap"):
        read_chg2cap_checkpoint(tmp_path / "nowhere.pth")


def test_another_vocabulary_is_refused(path):
    tensors = read_chg2cap_checkpoint(path)
    with pytest.raises(UserError, match="expected .*: it is not Chg2Cap with 10 words"):
        chg2cap_state(tensors, SETTINGS, WORDS + 1)


def test_special_words_get_our_names(tmp_path):
    file = tmp_path / "vocab.json"
    file.write_text('{"<NULL>": 0, "<UNK>": 1, "<START>": 2, "<END>": 3, "a": 4, "house": 5}')
    words = read_chg2cap_words(file)
    assert words.words == ("<pad>", "<unk>", "<start>", "<end>", "a", "house")
    file.write_text('["a"]')
    with pytest.raises(UserError, match="must hold a word map, word -> id"):
        read_chg2cap_words(file)


@pytest.mark.slow
def test_the_command_imports_a_file_of_full_size(tmp_path):
    torch.save(authors_content(FULL), tmp_path / "theirs.pth")
    words = ["<NULL>", "<UNK>", "<START>", "<END>", "a", "house", "is", "built", "."]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    theirs, word_map, output = (str(tmp_path / name) for name in ("theirs.pth", "vocab.json", "ours.pt"))
    import_authors.main([theirs, "--model", "chg2cap", "--word_map", word_map, "--output", output])
    model, vocabulary = restore_model(load_checkpoint(output))
    assert (model.settings, vocabulary.words[:4]) == (FULL, ("<pad>", "<unk>", "<start>", "<end>"))
    captions = model.caption(random_views(1), start=vocabulary.start, end=vocabulary.end, beam_size=1)
    assert len(captions) == 1
