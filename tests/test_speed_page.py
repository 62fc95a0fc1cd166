"""The tables of docs/speed.md quote the result files, and its estimates follow from them."""

import json
import math
from pathlib import Path

from tests.test_results import ROOT, result

WORKER, COMPUTED = "one worker, ", "pairs for each second that one worker computes, "
GFLOP = "GFLOP of a step for a caption of a pair without plain views"
PAIRS = (8438, 4219)  # training pairs of SECOND-CC-AUG and of SECOND-CC
CAPTIONS = 5 * 30  # of a pair, over all epochs
CARDS = {"tf32": 0.25 * 495e3, "bf16": 0.20 * 989e3}  # GFLOP a second that an H100 is assumed to reach
GPUS = {1: 1.0, 8: 8 * 0.7}  # and how many such cards several are worth


def part(name: str, of: str) -> dict:
    return result(name)["parts"][of]


def rate(row: dict) -> str:
    """Units per second: the median, the slowest and the fastest run."""
    return f"{1 / row['seconds']:.3g} [{1 / row['slowest']:.3g}, {1 / row['fastest']:.3g}]"


def loading_rows() -> list[str]:
    loading = part("loading.json", "loading")
    rows = []
    for row in loading["rows"]:
        name = row["name"].removeprefix(WORKER)
        if name == row["name"]:
            rows.append(f"| {name} | {1000 * row['seconds']:.1f} |")
        else:
            rows.append(f"| {name} | {rate(row)} | {loading['found'][COMPUTED + name]:.0f} |")
    return rows


def training_rows() -> list[str]:
    rows = part("training_cpu.json", "training")["rows"]
    return [f"| {row['name']} | {rate(row)} |" for row in rows]


def estimate_rows() -> list[str]:
    gflop = part("training_cpu.json", "training")["found"][GFLOP]
    actual = part("loading.json", "loading")["found"]
    plain, augmented = (actual[COMPUTED + name] for name in ("plain", "all of data.augment"))
    rows = []
    for gpus, worth in GPUS.items():
        for precision, speed in CARDS.items():
            captions = speed * worth / gflop
            workers = [math.ceil(captions / gpus / one) for one in (plain, augmented)]
            hours = [f"{pairs * CAPTIONS / captions / 3600:.2f}" for pairs in PAIRS]
            cells = [f"{captions:.0f}", *hours, *map(str, workers)]
            rows.append(f"| {gpus} x H100, {precision} (ESTIMATED) | {' | '.join(cells)} |")
    return rows


def expected_rows() -> list[str]:
    return [*loading_rows(), *training_rows(), *estimate_rows()]


def test_every_table_of_the_page_is_quoted_or_computed_from_its_files():
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    heads = ("| one data worker |", "| perturbation |", "| step |", "| machine |", "|---")
    rows = [line for line in page.splitlines() if line.startswith("|") and not line.startswith(heads)]
    assert rows == expected_rows()
    gflop = part("training_cpu.json", "training")["found"][GFLOP]
    assert f"{gflop:.0f} GFLOP for each caption" in " ".join(page.split())


def test_result_files_record_the_machine():
    for name in ("loading.json", "training_cpu.json"):
        assert {"machine", "config", "repeats"} <= json.loads(
            (Path(ROOT) / "docs/results" / name).read_text()
        ).keys()
