"""The command eval.py: files, controls and errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

import eval as evaluation
from configs import Config
from data.splits import open_split
from tests.conftest import CONFIGS
from tests.helpers.tiny import save_tiny_detector
from tools import benchmark, create_input_files, import_authors, make_demo_dataset, make_report, robustness
from tools.engine.checkpoint import load_checkpoint, save_checkpoint
from tools.scoring import NO_HUMAN_WORDS

pytestmark = pytest.mark.integration


def evaluate(tiny_run, *more: str) -> None:
    evaluation.main(["--checkpoint", str(tiny_run / "best.pt"), *more])


def read(folder):
    return [json.loads((folder / name).read_text()) for name in ("scores.json", "captions.json")]


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory):
    """The content of scores.json and captions.json of both splits."""
    output = tmp_path_factory.mktemp("eval")
    evaluate(tiny_run, "--split", "val", "test", "--output", str(output))
    return read(output)


def test_captions_are_complete_and_in_split_order(evaluated, demo_input):
    captions = evaluated[1]
    annotations = json.loads((demo_input.parent / "dataset" / "SECOND-CC-AUG.json").read_text())["images"]
    expected = [e for split in ("val", "test") for e in annotations if e["split"] == split]
    assert [c["filename"] for c in captions] == [e["filename"] for e in expected]
    assert [c["changed"] for c in captions] == [bool(e["changeflag"]) for e in expected]
    assert captions[0]["references"] == [" ".join(s["tokens"]) for s in expected[0]["sentences"]]
    keys = {"filename", "caption", "log_prob", "change_probability", "references", "changed", "scores"}
    assert set(captions[0]) == keys | (
        {"facts", "contradicts"} | ({"own_pair"} if captions[0]["changed"] else set())
    )
    assert set(captions[0]["scores"]) == {"bleu_4", "meteor", "rouge_l", "cider"}


def test_scores_have_floors(evaluated):
    scores = evaluated[0]
    for column in ("ours", "released", "floor", "floor_oracle", "margin"):
        assert set(scores[column]) == {"all", "changed", "unchanged"}
    assert scores["ours"]["all"]["pairs"] == 9
    interval = scores["ours"]["all"]["bleu_1"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert scores["decision"]['rule "the given map B is not empty"']["all"]["value"] == 100


def test_checkpoint_without_training_captions_uses_those_of_data_dir(
    tiny_run, evaluated, demo_input, tmp_path
):
    """As checkpoints of earlier versions and imported ones; without a train split there are no floors."""
    content = load_checkpoint(tiny_run / "best.pt")
    old = {
        name: value for name, value in content.items() if name not in ("train_captions", "train_constants")
    }
    save_checkpoint(tmp_path / "old.pt", old)
    evaluation.main(
        ["--checkpoint", str(tmp_path / "old.pt"), "--split", "val", "test", "--output", str(tmp_path)]
    )
    scores = read(tmp_path)[0]
    assert scores["training_captions"]["source"] == str(demo_input / "train.hdf5")
    for column in ("floor", "floor_oracle"):
        assert scores[column] == evaluated[0][column]
    test_only = tmp_path / "test_only"
    test_only.mkdir()
    for name in ("test.hdf5", "vocabulary.json"):
        shutil.copy(demo_input / name, test_only)
    evaluation.main(
        ["--checkpoint", str(tmp_path / "old.pt"), "--data.dir", str(test_only), "--output", str(tmp_path)]
    )
    scores = read(tmp_path)[0]
    assert scores["floor"] is scores["floor_oracle"] is scores["margin"] is None
    assert "checkpoint holds no training captions" in scores["reasons"]["floor"]
    assert "train.hdf5 not found" in scores["reasons"]["floor"]


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_scores_need_human_words_in_all_splits(tiny_run, demo_input, meteor, order):
    content = load_checkpoint(tiny_run / "best.pt")
    config = Config.from_dict(content["config"])
    splits, captions = [], []
    for split, human_words in zip(("val", "test"), order, strict=True):
        reader, rows = open_split(split, config.data)
        reader.has_human_words = human_words
        splits.append((reader, rows))
        for row in rows:
            pair = {"filename": reader.filenames[row], "changed": bool(reader.changed[row])}
            captions.append({**pair, "caption": "a road", "references": reader.references[row]})
    scores = evaluation.score_captions(captions, splits, content, config, meteor)
    assert scores["ours"] is scores["floor"] is None
    assert scores["reasons"]["ours"] == NO_HUMAN_WORDS
    assert scores["released"]["all"]["pairs"] == len(captions)


def test_captions_do_not_depend_on_workers_and_batch_size(evaluated, tiny_run, tmp_path):
    more = [
        "--split",
        "val",
        "test",
        "--output",
        str(tmp_path),
        "--decode.batch_size",
        "2",
        "--data.workers",
        "2",
    ]
    evaluate(tiny_run, *more)
    captions = read(tmp_path)[1]
    assert [c["caption"] for c in captions] == [c["caption"] for c in evaluated[1]]
    assert [c["log_prob"] for c in captions] == pytest.approx([c["log_prob"] for c in evaluated[1]], abs=1e-4)


def test_controls_have_separate_folders(tiny_run, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tiny_run / "best.pt", run)
    evaluate(run, "--shuffle_images", "--data.maps", "void")
    assert {path.name for path in (run / "test_void_maps_shuffled").iterdir()} == {
        "scores.json",
        "captions.json",
    }
    note = "all maps were void, and a model trained with maps then rarely reports a change"
    assert capsys.readouterr().out.splitlines()[-1] == note


def test_refusals(tiny_run, demo_input, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="checkpoint nowhere.pt not found: train one with train.py first"
    ):
        evaluation.main(["--checkpoint", "nowhere.pt"])
    with pytest.raises(ValueError, match="required: checkpoint"):
        evaluation.main(["--split", "val"])
    with pytest.raises(ValueError, match="split.*test2"):
        evaluate(tiny_run, "--split", "test2")
    argv = ["--dataset_dir", str(demo_input.parent / "dataset"), "--output_dir", str(tmp_path / "larger")]
    create_input_files.main([*argv, "--image_size", "48", "--min_word_freq", "1", "--workers", "1"])
    with pytest.raises(ValueError, match=r"images of \(48, 48\).*trained on \(32, 32\).*--image_size 32"):
        evaluate(tiny_run, "--data.dir", str(tmp_path / "larger"))


def broken_copy(demo_input: Path, folder: Path) -> str:
    """A copy of the input files in which every split but train lacks images but the first: what reads them
    stumbles over them."""
    shutil.copytree(demo_input, folder)
    for split in ("val", "test"):
        with h5py.File(folder / f"{split}.hdf5", "r+") as file:
            first = file["rgb"][:1]
            del file["rgb"]
            file["rgb"] = first
    return str(folder)


COMMANDS = {
    "eval.py": lambda run, data, output: evaluation.main(
        ["--checkpoint", f"{run}/best.pt", "--data.dir", data, "--output", output]
    ),
    "robustness.py": lambda run, data, output: robustness.main(
        ["--checkpoint", f"{run}/best.pt", "--data.dir", data, "--output", output]
    ),
    "benchmark.py": lambda run, data, output: benchmark.main(
        ["--checkpoint", f"{run}/best.pt", "--data.dir", data, "--split", "test", "--output", output]
    ),
    "make_report.py": lambda run, data, output: make_report.main([str(run), "--output", output]),
    "import_released.py": lambda run, data, output: import_authors.main(
        ["absent", "--word_map", "absent", "--output", output]
    ),
    "make_demo_dataset.py": lambda run, data, output: make_demo_dataset.main(
        ["--pairs", "10", "--seed", "1", "--output", output]
    ),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_output_path_is_checked_before_the_work(tiny_run, demo_input, tmp_path, command):
    data = broken_copy(demo_input, tmp_path / "data")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/results cannot be written .*: choose another .* --output"):
        command(tiny_run, data, str(tmp_path / "file" / "results"))


def test_output_path_of_a_detector_is_checked_before_the_work(demo_input, tmp_path):
    detector = str(tmp_path / "detector.pt")
    save_tiny_detector(detector, demo_input)
    data = broken_copy(demo_input, tmp_path / "data")
    with pytest.raises(OSError, match="detector.pt/results cannot be written"):
        evaluation.main(["--checkpoint", detector, "--data.dir", data, "--output", f"{detector}/results"])


def test_table_is_printed_if_the_disk_is_full(tiny_run, tmp_path):
    argv = [sys.executable, str(CONFIGS.parent / "eval.py"), "--checkpoint", str(tiny_run / "best.pt")]
    words = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *argv, "--output", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be written in full" in done.stderr
    assert any(line.startswith("all") and "ours" in line for line in done.stdout.splitlines())


def test_missing_split_is_reported_before_captioning(tiny_run, demo_input, tmp_path):
    data = broken_copy(demo_input, tmp_path / "data")
    (tmp_path / "data" / "val.hdf5").unlink()
    with pytest.raises(FileNotFoundError, match="val.hdf5 not found"):
        evaluate(tiny_run, "--data.dir", data, "--split", "test", "val", "--output", str(tmp_path / "out"))


def test_a_split_without_captions_is_answered_with_the_command_that_captions_it(tiny_run, demo_input):
    dataset = demo_input.parent / "dataset"
    with pytest.raises(FileNotFoundError, match=f"python caption.py {dataset}/test/rgb/A .* --checkpoint "):
        evaluate(tiny_run, "--data.dir", str(dataset))
