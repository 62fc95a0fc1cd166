"""Imported checkpoints of the authors: same logits, same captions; eval, caption and train accept them."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import caption
import eval as evaluation
import train
from configs.command_line import load
from tests.conftest import CONFIGS
from tests.helpers import authors_modules, naive
from tools import create_input_files, import_authors
from tools.engine.checkpoint import load_checkpoint, restore_model

pytestmark = pytest.mark.integration

WORDS = ["<pad>", *(f"w{i}" for i in range(16)), "<unk>", "<start>", "<end>"]
START, END = 18, 19
SETTINGS = CONFIGS / "second_cc_authors.yaml"
SIZES = {"trunk": "resnet18", "grid": 3, "width": 16, "heads": 2, "feedforward": 32}  # of build's defaults


@pytest.fixture
def importer(tmp_path):
    """A function that imports a file with the word map of `words` and returns the new checkpoint's path."""

    def run(path: Path, words: list[str] = WORDS) -> Path:
        word_map = tmp_path / "WORDMAP_SECOND_CC.json"
        word_map.write_text(json.dumps({word: index for index, word in enumerate(words)}))
        import_authors.main([str(path), "--word_map", str(word_map), "--output", str(tmp_path / "ours.pt")])
        return tmp_path / "ours.pt"

    return run


@pytest.fixture
def import_modules(importer, tmp_path):
    """A function that pickles modules as the authors' code does and imports them."""

    def run(modules: dict[str, nn.Module], save=authors_modules.save) -> Path:
        return importer(save(authors_modules.checkpoint(modules), tmp_path / "theirs.pth.tar"))

    return run


@torch.no_grad()
def compare_logits(checkpoint: Path, modules: dict[str, nn.Module], heads: int, views: torch.Tensor) -> None:
    model, _ = restore_model(load_checkpoint(checkpoint))
    tokens = torch.randint(0, len(WORDS), (len(views), 12), generator=torch.Generator().manual_seed(1))
    expected = naive.logits(authors_modules.tensors_of(modules), views, tokens, heads)
    assert expected.std(0).mean() > 0.1  # the images matter
    torch.testing.assert_close(model(views, tokens), expected, rtol=0, atol=1e-4)


def compare_captions(
    checkpoint: Path, modules: dict[str, nn.Module], heads: int, views: torch.Tensor
) -> list[int]:
    """Compare captions (beam size 4), up to scores within 1e-5, and return their lengths."""
    model, _ = restore_model(load_checkpoint(checkpoint))
    parameters, lengths = authors_modules.tensors_of(modules), []
    actual = model.caption(views, start=START, end=END, beam_size=4)
    for pair, (ours, *_) in enumerate(actual):
        words, score = naive.caption(parameters, views[pair : pair + 1], heads, start=START, end=END, beams=4)
        assert ours.tokens == words or abs(ours.log_prob - score) < 1e-5
        assert ours.log_prob == pytest.approx(score, abs=1e-3)  # a sum over up to 51 words
        lengths.append(len(words))
    return lengths


@pytest.mark.parametrize(
    "sizes",
    [
        {"trunk": "resnet18"},
        {"trunk": "resnet34", "width": 24, "heads": 3, "inner": 20, "grid": 2, "layers": 1},
        {"trunk": "resnet50", "width": 8, "heads": 4, "grid": 5, "layers": 3},
    ],
    ids=lambda sizes: sizes["trunk"],
)
def test_logits_equal_those_of_the_authors_model(import_modules, sizes):
    modules = authors_modules.build(len(WORDS), **sizes)
    path = import_modules(modules)
    assert load_checkpoint(path)["config"]["model"]["trunk"] == sizes["trunk"]
    compare_logits(path, modules, sizes.get("heads", 2), authors_modules.pictures(3, seed=1))


def test_captions_equal_those_of_the_authors_model(import_modules):
    lengths = []
    for seed in (4, 5, 8):
        modules = authors_modules.build(len(WORDS), seed=seed)
        modules["decoder"].wdc.bias.data[END] += 1
        pictures = authors_modules.pictures(4, seed=1)
        lengths += compare_captions(import_modules(modules), modules, 2, pictures)
    assert {0, 51} < set(lengths)  # empty, unfinished, and between


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["resnet50", "resnet101"])
def test_full_size(import_modules, trunk):
    sizes = {"trunk": trunk, "width": 512, "heads": 8, "inner": 2048, "grid": 14}
    modules, pictures = authors_modules.build(len(WORDS), **sizes), authors_modules.pictures(2, 256, seed=1)
    path = import_modules(modules)
    model = load_checkpoint(path)["config"]["model"]
    assert {**model, **load(SETTINGS).to_dict()["model"], "trunk": trunk} == model
    compare_logits(path, modules, 8, pictures)
    compare_captions(path, modules, 8, pictures[:1])


@pytest.mark.slow
@pytest.mark.real
def test_parameters_match_the_listing_of_an_authors_checkpoint(real_data):
    lines = (real_data / "released_checkpoint.tsv").read_text().splitlines()
    listed = {}
    for line in lines:
        owner, name, shape = line.split("\t")
        listed[f"{owner}.{name}"] = shape
    modules = authors_modules.build(7, trunk="resnet101", width=512, heads=8, inner=2048, grid=14)
    built = {name: str(tuple(t.shape)) for name, t in authors_modules.tensors_of(modules).items()}
    assert built == listed


@pytest.mark.parametrize("save", [authors_modules.save, authors_modules.save_as_torch_1_10])
def test_epoch_and_scores_are_imported(import_modules, save, capsys):
    allowed = set(torch.serialization.get_safe_globals())
    content = load_checkpoint(import_modules(authors_modules.build(len(WORDS), seed=1), save))
    expected = load(SETTINGS).to_dict()
    expected["model"] |= SIZES
    assert content["config"] == expected
    assert content["vocabulary"] == WORDS
    assert (content["epoch"], content["scores"]) == (7, authors_modules.SCORES)
    assert content["image_size"] == [256, 256]
    assert "resnet18, 20 words, epoch 7, Bleu_1 0.75" in capsys.readouterr().out
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_both_forms_of_a_file_give_the_same_weights(import_modules):
    one, other = (
        load_checkpoint(import_modules(authors_modules.build(len(WORDS)), save))["model"]
        for save in (authors_modules.save, authors_modules.save_as_torch_1_10)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def imported(importer, second_cc_folder, tmp_path) -> tuple[Path, Path]:
    """A dataset folder, whose input files are in tmp_path / "input", and a checkpoint with their words."""
    folder = second_cc_folder()
    argv = ["--dataset_dir", str(folder), "--output_dir", str(tmp_path / "input"), "--min_word_freq", "0"]
    create_input_files.main([*argv, "--workers", "1"])
    words = json.loads((tmp_path / "input" / "vocabulary.json").read_text())
    content = authors_modules.checkpoint(authors_modules.build(len(words)))
    return folder, importer(authors_modules.save(content, tmp_path / "theirs.pth.tar"), words)


def test_eval_and_caption_accept_an_imported_checkpoint(imported, tmp_path, capsys):
    folder, checkpoint = imported
    evaluation.main(
        ["--checkpoint", str(checkpoint), "--data.dir", str(tmp_path / "input"), "--data.workers", "0"]
    )
    assert len(json.loads((tmp_path / "test" / "captions.json").read_text())) == 2
    capsys.readouterr()
    images = [str(folder / "test" / "rgb" / date / "00005.png") for date in "AB"]
    caption.main([*images, "--checkpoint", str(checkpoint)])
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.slow
def test_training_starts_from_an_imported_checkpoint(imported, tmp_path):
    _, checkpoint = imported
    settings = {f"model.{name}": value for name, value in SIZES.items()}
    settings |= {"data.dir": tmp_path / "input", "data.workers": 0, "train.start_from": checkpoint}
    settings |= {"train.epochs": 1, "train.learning_rate": 1e-12, "model.trunk_batchnorm": "frozen"}

    def run(run_dir: Path, **changes) -> None:
        options = [f"--{name}={value}" for name, value in {**settings, **changes}.items()]
        train.main(["--config", str(SETTINGS), "--run_dir", str(run_dir), *options])

    run(tmp_path / "run")  # its steps are too small to be seen
    given, trained = (load_checkpoint(path)["model"] for path in (checkpoint, tmp_path / "run" / "last.pt"))
    weights = [name for name in given if "running_" not in name and "num_batches" not in name]
    for name in weights:
        torch.testing.assert_close(trained[name], given[name], rtol=0, atol=1e-7, msg=name)
    with pytest.raises(ValueError, match=r"start_from: .*ours.pt was made with model.grid 3, not 4: use the"):
        run(tmp_path / "other grid", **{"model.grid": 4})
    assert not (tmp_path / "other grid").exists()
