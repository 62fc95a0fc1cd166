"""The command tools/search_pairs.py."""

import csv
from itertools import permutations

import numpy as np
import pytest

from data.splits import open_split
from tools import search_pairs
from tools.engine.checkpoint import load_checkpoint, stored_config
from tools.engine.predictor import Predictor
from tools.search_pairs import best_rank, chance_reciprocal_rank


def search(tiny_run, *more):
    search_pairs.main(["--checkpoint", str(tiny_run / "best.pt"), *map(str, more)])


def test_pairs_are_ranked_by_the_log_probability_per_word(tiny_run, demo_input, tmp_path, capsys):
    content = load_checkpoint(tiny_run / "best.pt")
    query, output = content["no_change"][0], tmp_path / "found.csv"
    search(tiny_run, query, "--split", "val", "--output", output, "--top", 2)
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    val = demo_input.parent / "dataset" / "val"
    predictor, expected = Predictor.load(tiny_run / "best.pt", device="cpu"), {}
    for path in sorted((val / "rgb" / "A").iterdir()):
        files = [val / view / path.name for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]
        (log_prob,) = predictor.score(*files[:2], [query], *files[2:])
        expected[path.name] = log_prob / (len(query.split()) + 1)
    assert [row["filename"] for row in rows] == sorted(expected, key=expected.get, reverse=True)
    for row in rows:
        assert float(row["score"]) == pytest.approx(expected[row["filename"]], abs=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == [row["filename"] for row in rows[:2]]


def test_references_as_queries(tiny_run, capsys):
    search(tiny_run, "--references")
    config = stored_config(load_checkpoint(tiny_run / "best.pt"))
    reader, rows = open_split("test", config.data)
    queries = {text for row in rows for text in reader.references[row]}
    printed = capsys.readouterr()
    left_out = int(printed.err.split(" of ")[0]) if "left out" in printed.err else 0
    assert f"({len(queries) - left_out} queries, {len(rows)} pairs, by chance" in printed.out
    value = float(printed.out.split(": ")[1].split(" ")[0])
    assert 0 < value <= 1


def test_ranks_by_hand():
    scores = np.array([-1.0, -2.0, -2.0, -3.0])
    assert best_rank(scores, {3, 0}) == 1
    assert best_rank(scores, {2}) == 2.5
    assert best_rank(scores, {3}) == 4
    for relevant in (1, 2, 4):
        orders = list(permutations(range(4)))
        firsts = [1 / (1 + min(order.index(pair) for pair in range(relevant))) for order in orders]
        assert chance_reciprocal_rank(relevant, 4) == pytest.approx(sum(firsts) / len(orders))


def test_refusals(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="unknown: unicorn: use words of the checkpoint's vocabulary"):
        search(tiny_run, "a unicorn")
    for argv in ([], ["a house", "--references"]):
        with pytest.raises(ValueError, match="a sentence or with --references: give one of the two"):
            search(tiny_run, *argv)
    with pytest.raises(ValueError, match="--output has the pairs of one sentence: leave it out"):
        search(tiny_run, "--references", "--output", tmp_path / "a.csv")
