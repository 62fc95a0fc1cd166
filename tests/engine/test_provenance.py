"""What scores belong to: recorded by eval.py, checked by what reads scores."""

import json
import shutil
from pathlib import Path

import h5py
import pytest

import configs
import eval as evaluation
from configs import Config, DecodeConfig
from configs.command_line import load
from data.palette import Palette
from data.settings import DataConfig
from tools import make_report
from tools.engine.provenance import differences, folder_name, recorded, sha256_of
from tools.run_seeds import check_training_data, outdated

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def scored(tiny_run, tmp_path_factory) -> Path:
    """A copy of the run with its test scores."""
    run = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(tiny_run, run)
    evaluation.main(["--checkpoint", str(run / "best.pt")])
    return run


@pytest.fixture
def other_data(demo_input, tmp_path) -> Path:
    """Input files of which the test split has another content."""
    folder = Path(shutil.copytree(demo_input, tmp_path / "other"))
    with h5py.File(folder / "test.hdf5", "r+") as file:
        file.attrs["fingerprint"] = "0" * 64
    return folder


def scores_of(run: Path) -> dict:
    return json.loads((run / "test" / "scores.json").read_text())


def test_scores_record_what_they_belong_to(scored, demo_input):
    record = scores_of(scored)["evaluation"]
    with h5py.File(demo_input / "test.hdf5") as file:
        assert record["data"] == {"test.hdf5": file.attrs["fingerprint"]}
    assert record["sha256"] == sha256_of(scored / "best.pt")
    assert (record["splits"], record["control"]) == (["test"], None)
    assert record["settings"]["decode.beam_size"] == 4
    assert record["settings"]["data.maps"] == "given"


@pytest.mark.parametrize(
    ("changes", "shuffled", "name"),
    [
        ({}, False, "test"),
        ({}, True, "test_shuffled"),
        ({"decode": DecodeConfig(beam_size=1)}, False, "test_beam_size_1"),
        ({"decode": DecodeConfig(batch_size=1, device="cpu")}, False, "test"),
        (
            {"data": DataConfig(maps="void"), "decode": DecodeConfig(precision="bf16")},
            True,
            "test_void_maps_precision_bf16_shuffled",
        ),
        ({"data": DataConfig(augmented_splits=[])}, False, "test_augmented_splits_none"),
        ({"data": DataConfig(augmented_splits=["train", "test"])}, False, "test_augmented_splits_train_test"),
    ],
)
def test_folder_name_contains_changed_settings(changes, shuffled, name):
    assert folder_name(["test"], Config(**changes), shuffled, Config()) == name


def test_lists_of_sentences_have_separate_folders():
    names = {
        folder_name(["test"], Config(data=DataConfig(no_change=message)), False, Config())
        for message in (None, ["a/b"], ["a/c"])
    }
    assert len(names) == 3
    assert not [name for name in names if "/" in name]


def test_other_data_do_not_replace_the_scores(scored, other_data):
    before = scores_of(scored)
    with pytest.raises(ValueError, match=r"test/scores.json holds the scores on other data .*with --output"):
        evaluation.main(["--checkpoint", str(scored / "best.pt"), "--data.dir", str(other_data)])
    assert scores_of(scored) == before


def test_data_that_do_not_fit_the_checkpoint_are_refused_before_other_scores(scored, other_data):
    with h5py.File(other_data / "test.hdf5", "r+") as file:
        stored = Palette(("field",), ((180, 200, 90),)).to_json()
        file.attrs["palette"] = stored
    with pytest.raises(ValueError, match=r"has maps with other classes \(field\) than the model"):
        evaluation.main(["--checkpoint", str(scored / "best.pt"), "--data.dir", str(other_data)])


def test_seeds_are_tested_again_if_checkpoint_data_or_settings_differ(
    scored, other_data, demo_input, tmp_path
):
    config = load(scored / "config.yaml")
    scores = scores_of(scored)
    assert outdated(scores, scored, config) == []
    moved = configs.Config(**{**vars(config), "data": DataConfig(dir=str(other_data))})
    assert outdated(scores, scored, moved) == [f"another data set ({demo_input})"]
    run = Path(shutil.copytree(scored, tmp_path / "run"))
    shutil.copy(run / "last.pt", run / "best.pt")
    assert outdated(scores, run, config) == ["another checkpoint (best.pt)"]
    scores["evaluation"]["settings"]["decode.beam_size"] = 1
    assert outdated(scores, scored, config) == ["decode.beam_size 1 instead of 4"]


def test_run_on_other_training_data_is_refused(scored, other_data):
    config = load(scored / "config.yaml")
    check_training_data(scored, config)
    moved = configs.Config(**{**vars(config), "data": DataConfig(dir=str(other_data))})
    check_training_data(scored, moved)  # its test split alone differs
    with h5py.File(other_data / "train.hdf5", "r+") as file:
        file.attrs["fingerprint"] = "0" * 64
    with pytest.raises(
        ValueError, match=r"was trained on other data than .*train.hdf5: choose another --name"
    ):
        check_training_data(scored, moved)


def test_scores_of_an_earlier_version_are_accepted_with_a_remark(scored, capsys):
    scores = {name: value for name, value in scores_of(scored).items() if name != "evaluation"}
    assert recorded(scores, scored / "scores.json") is None
    assert "an earlier version wrote it" in capsys.readouterr().err
    assert differences({}, {}) == []


def test_report_refuses_scores_of_another_checkpoint_or_other_pairs(scored, other_data, tmp_path):
    with pytest.raises(ValueError, match="scores.json does not belong to .* another data set"):
        make_report.main([str(scored), "--data.dir", str(other_data)])
    with pytest.raises(ValueError, match="data.maps given instead of void"):
        make_report.main([str(scored), "--data.maps", "void"])
    run = Path(shutil.copytree(scored, tmp_path / "run"))
    shutil.copy(run / "last.pt", run / "best.pt")
    with pytest.raises(ValueError, match="another checkpoint .*: run eval.py again"):
        make_report.main([str(run)])


@pytest.mark.parametrize("count", [2, 3, 85])
def test_shuffling_maps_no_pair_to_itself(count):
    rows = list(range(5, 5 + count))
    shown = evaluation.other_pairs(rows)
    assert sorted(shown) == rows
    assert all(other != row for other, row in zip(shown, rows, strict=True))


def test_shuffling_a_single_pair_is_refused():
    with pytest.raises(ValueError, match="needs at least two pairs, the split has one: leave it out"):
        evaluation.other_pairs([3])


def test_splits_seen_in_training_are_recorded_with_a_warning(scored, tmp_path, capsys):
    argv = ["--checkpoint", str(scored / "best.pt"), "--output", str(tmp_path)]
    evaluation.main([*argv, "--split", "val", "test"])
    assert "WARNING: val trained this model or chose its checkpoint" in capsys.readouterr().err
    record = json.loads((tmp_path / "scores.json").read_text())["evaluation"]
    assert record["seen_in_training"] == ["val"]
    assert scores_of(scored)["evaluation"]["seen_in_training"] == []
