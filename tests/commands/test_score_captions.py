"""The command score_captions.py: the scores are those of eval.py, for every form of the same captions."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import eval as evaluation
from data.errors import UserError
from tools import make_report, score_captions
from tools.engine.folder_lock import locked
from tools.engine.provenance import sha256_of

pytestmark = pytest.mark.integration


def read(folder: Path, name: str = "scores.json"):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory) -> Path:
    """The folder of eval.py with the scores and captions of two splits."""
    output = tmp_path_factory.mktemp("eval")
    argv = ["--checkpoint", str(tiny_run / "best.pt"), "--split", "val", "test", "--output", str(output)]
    evaluation.main(argv)
    return output


@pytest.fixture(scope="module")
def without_train(demo_input, tmp_path_factory) -> Path:
    """Input files without a train split, for which no floors are computed."""
    folder = Path(shutil.copytree(demo_input, tmp_path_factory.mktemp("data") / "input"))
    (folder / "train.hdf5").unlink()
    return folder


def score(path: Path, data: Path, *more: str) -> None:
    score_captions.main([str(path), "--data.dir", str(data), "--split", "val", "test", *more])


def test_captions_of_eval_have_the_same_scores(evaluated, demo_input, tmp_path, capsys):
    score(evaluated / "captions.json", demo_input, "--output", str(tmp_path / "out"))
    scores, expected = read(tmp_path / "out"), read(evaluated)
    record = scores.pop("evaluation")
    assert scores.pop("training_captions")["source"] == str(demo_input / "train.hdf5")
    del expected["evaluation"], expected["training_captions"], expected["change"]
    assert scores == expected
    captions = read(evaluated, "captions.json")
    for entry in captions:
        del entry["log_prob"], entry["change_probability"]
    assert read(tmp_path / "out", "captions.json") == captions
    assert record["captions"] == "captions.json"
    assert record["sha256"] == sha256_of(evaluated / "captions.json")
    assert record["data"].keys() == {"val.hdf5", "test.hdf5"}
    assert record["settings"]["data.augmented_splits"] == ["train"]
    assert "checkpoint" not in record
    output = capsys.readouterr()
    assert "scores.json and captions.json in" in output.out
    assert "remark" not in output.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["captions.json", "scores.json"]


def test_a_table_with_other_names_and_punctuation_has_the_same_scores(
    evaluated, without_train, tmp_path, capsys
):
    entries = read(evaluated, "captions.json")
    with (tmp_path / "theirs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for entry in reversed(entries):
            table.writerow([f"A/{Path(entry['filename']).stem}", entry["caption"].capitalize() + "."])
    (tmp_path / "out").mkdir()
    evaluation.main(
        [
            *("--captions", str(tmp_path / "theirs.csv"), "--split", "val", "test"),
            *("--data.dir", str(without_train), "--output", str(tmp_path / "out")),
        ]
    )
    scores = read(tmp_path / "out")
    assert scores["ours"] == read(evaluated)["ours"]
    assert scores["floor"] is None
    assert scores["reasons"]["floor"].startswith(
        "no floors: data.dir has no training captions to choose them"
    )
    remarks = capsys.readouterr().err
    assert f"names that differ from those of the input files: {len(entries)} (" in remarks
    assert f"{len(entries)} captions are scored in lower case without punctuation" in remarks


def test_without_output_nothing_is_written(evaluated, without_train, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    captions = [{"filename": e["filename"], "caption": ""} for e in read(evaluated, "captions.json")]
    (tmp_path / "theirs.json").write_text(json.dumps(captions))
    score(tmp_path / "theirs.json", without_train)
    output = capsys.readouterr()
    assert "change-decision accuracy" in output.out
    assert output.out.endswith("distinct captions: 1\n")
    assert f"{len(captions)} captions have no words" in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.json"]


def test_the_output_is_checked_before_the_work(evaluated, demo_input, tmp_path):
    with pytest.raises(UserError, match=r"--output .* holds .*captions.json.*: choose another folder"):
        score(evaluated / "captions.json", demo_input, "--output", str(evaluated))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/out cannot be written .*: choose another path with --output"):
        score(evaluated / "captions.json", tmp_path, "--output", str(tmp_path / "file" / "out"))
    with locked(tmp_path / "out", ""), pytest.raises(UserError, match="is in use by .* another --output"):
        score(evaluated / "captions.json", demo_input, "--output", str(tmp_path / "out"))


def test_captions_of_another_split_are_refused(evaluated, demo_input):
    argv = [str(evaluated / "captions.json"), "--data.dir", str(demo_input)]
    with pytest.raises(
        UserError, match=r"each pair of test; captions of no pair: 3 \(.*choose another --split"
    ):
        score_captions.main(argv)
    with pytest.raises(FileNotFoundError, match=r"test.hdf5 not found: .*, add captions to the data set"):
        score_captions.main([argv[0], "--data.dir", str(evaluated)])


def test_a_report_of_a_run_refuses_scores_of_given_captions(tiny_run, evaluated, tmp_path):
    for name in ("captions.json", "scores.json"):
        shutil.copy(evaluated / name, tmp_path)
    scores = read(tmp_path)
    scores["evaluation"]["captions"] = "theirs.json"
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(UserError, match=r"captions that were given \(theirs.json\).*with --eval"):
        make_report.main([str(tiny_run), "--split", "val", "test", "--eval", str(tmp_path)])
