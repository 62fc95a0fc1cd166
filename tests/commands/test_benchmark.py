"""The benchmark command on a tiny model, and its stopwatch."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from data.perturbations import PERTURBATIONS
from tests.helpers.tiny import tiny_settings
from tools import benchmark
from tools.studies.benchmark_model import precisions
from tools.studies.stopwatch import Work, count_operations, format_rows, product_speed, time_side_by_side

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def run(output, *argv):
    """Run the benchmark once and return the parts of its JSON file, with rows by name."""
    benchmark.main([*map(str, argv), "--data.workers", "0", "--repeats", "1", "--output", str(output)])
    report = json.loads(output.read_text())
    assert {"machine", "config", "repeats", "parts"} <= report.keys()
    assert report["machine"]["torch"] == torch.__version__
    for part in report["parts"].values():
        part["rows"] = {row["name"]: row for row in part["rows"]}
    return report["parts"]


def check_ratios(rows):
    """Check the speed relative to the authors' procedure and to the trunks, in all precisions."""
    for precision in precisions(torch.device("cpu")):
        ours, trunks = rows[precision], rows[f"trunks alone, {precision}"]
        assert ours["times_released"] == pytest.approx(rows["released"]["seconds"] / ours["seconds"])
        assert ours["above_limit"] == pytest.approx(ours["seconds"] / trunks["seconds"] - 1)
        assert 0.1 < ours["peak_gb"] < 20


def test_networks_with_random_weights(tmp_path, capsys):
    settings = tiny_settings("none", **{"train.batch_size": 5, "train.captions_per_step": "one"})
    parts = run(tmp_path / "b.json", *settings, "--pairs", 2, "--parts", "evaluation", "training")
    for part in ("evaluation", "training"):
        check_ratios(parts[part]["rows"])
    actual = parts["evaluation"]["found"]
    assert actual["words in a caption"] == pytest.approx(8, abs=2)
    assert actual["share of captions that equal the released ones, float32"] == 1
    every, one = (parts["training"]["rows"][name] for name in ("all captions of a pair, float32", "float32"))
    share = parts["training"]["found"]["epoch with captions_per_step all, share of one's, float32"]
    assert share == pytest.approx(every["seconds"] / one["seconds"])
    assert parts["training"]["found"]["GFLOP of a step for a caption of a pair without plain views"] > 0.1
    assert "x authors" in capsys.readouterr().out


def test_a_trained_model_on_a_split(tiny_run, demo_input, tmp_path):
    argv = ("--checkpoint", tiny_run / "best.pt", "--data.dir", demo_input, "--split", "test")
    parts = run(tmp_path / "b.json", *argv, "--pairs", 3, "--parts", "evaluation")
    check_ratios(parts["evaluation"]["rows"])
    assert parts["evaluation"]["found"]["share of captions that equal the released ones, float32"] == 1


@pytest.mark.slow
def test_commands(tiny_run, tmp_path):
    argv = ("--checkpoint", tiny_run / "best.pt", "--parts", "preparation", "caption", "--pairs", 1)
    parts = run(tmp_path / "b.json", *argv)
    for part, script in (("preparation", "create_input_files.py"), ("caption", "caption.py")):
        assert parts[part]["rows"][script]["seconds"] > 0
        assert parts[part]["rows"][script]["peak_gb"] is None
    assert parts["caption"]["found"]["seconds beyond that"] > 0


@pytest.mark.slow
def test_one_data_worker(tmp_path):
    parts = run(tmp_path / "b.json", *tiny_settings("none"), "--pairs", 1, "--parts", "loading")
    rows = parts["loading"]["rows"]
    workers = [f"one worker, {name}" for name in ("plain", "turned", "all of data.augment")]
    assert list(rows) == [*workers, *PERTURBATIONS]
    assert rows["one worker, plain"]["seconds"] < rows["one worker, all of data.augment"]["seconds"]


def test_model_settings_of_a_checkpoint_cannot_be_overridden(tiny_run, tmp_path):
    argv = ["--checkpoint", str(tiny_run / "best.pt"), "--model.width", "32"]
    with pytest.raises(ValueError, match="leave out --config and --model"):
        benchmark.main([*argv, "--output", str(tmp_path / "b.json")])


def test_mistakes_end_in_one_line():
    script = [sys.executable, benchmark.__file__, "--checkpoint", "absent.pt"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr == "benchmark.py: error: checkpoint absent.pt not found: train one with train.py first\n"
    )


def test_works_run_in_turn():
    turns = []
    works = {
        "released": Work(lambda: turns.append("a") or "first", units=2),
        "ours": Work(lambda: turns.append("b") or "second", 1, baseline="released", limit="released"),
        "others": Work(lambda: turns.append("c"), units=1, elsewhere=True),
    }
    rows, results = time_side_by_side(works, 3, CPU)
    assert turns == ["a", "b", "c"] * 3
    assert results == {"released": "first", "ours": "second", "others": None}
    for row in rows:
        assert 0 < row.fastest <= row.seconds <= row.slowest
    assert rows[1].times_released == pytest.approx(rows[0].seconds / rows[1].seconds)
    assert rows[2].peak_gb is None
    rows = [replace(row, seconds=0.25) for row in rows]  # what the columns have room for
    table = format_rows("part", "pair", rows).splitlines()
    assert [line.split()[0] for line in table] == ["part", "released", "ours", "others"]
    assert len({len(line) for line in table}) == 1


def test_peak_memory_is_reset_between_works():
    """Only the first work allocates 200 MB; the peak of the second does not include them."""
    works = {
        "large": Work(lambda: float(torch.ones(50_000_000).sum()), units=1),
        "small": Work(lambda: None, units=1),
    }
    (large, small), _ = time_side_by_side(works, 1, CPU)
    assert large.peak_gb > small.peak_gb + 0.15


def test_operations_and_speed_of_a_product():
    a = torch.ones(32, 16)
    assert count_operations(lambda: a @ a.T) == 2 * 32 * 32 * 16
    for precision in precisions(torch.device("cpu")):
        assert product_speed(CPU, precision) > 1e6
