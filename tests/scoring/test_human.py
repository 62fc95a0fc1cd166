"""The human line: every reference against the others of its pair, all positions pooled."""

import numpy as np
import pytest

from tools.scoring.bootstrap import resampling_counts
from tools.scoring.facts import Facts
from tools.scoring.human import HUMAN, ONE_CAPTION, human_scores, leave_one_out
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import measure
from tools.scoring.own_pair import OwnPair

REFERENCES = [
    ["a house is built", "a house appears", "one house is built near the road"],
    ["trees are removed", "the trees disappear"],
    ["a lonely caption"],
    ["there is no difference", "no change has occurred", "nothing has changed"],
]
MODEL = ["a house appears", "trees are removed", "a lonely caption", "there is no difference"]


def compare(references, systems, meteor, sources=None, resamples=20, **options) -> dict:
    """`human_scores` with a bootstrap over pairs, or over their sources."""

    def resample(pairs):
        return resampling_counts(len(pairs), resamples, 0, sources and [sources[pair] for pair in pairs])

    return human_scores(references, systems, meteor, resample, **options)


@pytest.fixture(scope="module")
def result(meteor):
    return compare(REFERENCES, {"ours": MODEL}, meteor)


def test_every_position_leaves_out_its_own_reference():
    positions = leave_one_out([["a", "b", "c"], ["d", "e"]])
    assert positions == [
        ([0, 1], [("a", ("b", "c")), ("d", ("e",))]),
        ([0, 1], [("b", ("a", "c")), ("e", ("d",))]),
        ([0], [("c", ("a", "b"))]),
    ]
    said = leave_one_out([["a", "b", "c"], ["d", "e"]], ["x", "y"])
    assert [segments for _, segments in said] == [
        [("x", ("b", "c")), ("y", ("e",))],
        [("x", ("a", "c")), ("y", ("d",))],
        [("x", ("a", "b"))],
    ]


def test_pairs_with_one_caption_are_left_out(result):
    numbers = {name: result[name] for name in ("pairs", "left_out", "comparisons")}
    assert numbers == {"pairs": 3, "left_out": 1, "comparisons": 8}


def test_rouge_by_hand(meteor):
    references = [["a b", "a c"], ["d", "d"]]
    columns = compare(references, {"ours": ["a b", "d"]}, meteor)["columns"]
    # persons: "a b" against "a c" has ROUGE-L 1/2 both ways, "d" against "d" 1 both ways
    assert columns[HUMAN]["rouge_l"]["value"] == pytest.approx(75)
    # ours: "a b" against "a c" 1/2 and against "a b" 1, "d" 1 twice
    assert columns["ours"]["rouge_l"]["value"] == pytest.approx(100 * 3.5 / 4)


def test_bleu_pools_the_counts_of_all_positions(meteor, result):
    segments = [
        (caption, tuple(own[:place] + own[place + 1 :]))
        for own in (REFERENCES[0], REFERENCES[1], REFERENCES[3])
        for place, caption in enumerate(own)
    ]
    pooled = measure(segments, meteor).scores(np.ones(len(segments)))
    found = result["columns"][HUMAN]
    for metric in ("bleu_1", "bleu_4", "meteor", "rouge_l"):
        assert found[metric]["value"] == pytest.approx(float(pooled[metric])), metric


def test_a_copy_of_the_persons_scores_as_all_persons_do_where_all_say_the_same(meteor):
    references = [["a house is built"] * 3, ["trees are removed now"] * 3]
    columns = compare(references, {"ours": [own[0] for own in references]}, meteor)["columns"]
    assert columns["ours"] == columns[HUMAN]
    assert columns[HUMAN]["bleu_4"]["value"] == pytest.approx(100)


def test_pairs_with_one_caption_each_have_no_comparison(meteor):
    result = compare([["one caption"]], {}, meteor)
    assert result == {"pairs": 0, "left_out": 1, "comparisons": 0, "columns": {}, "reason": ONE_CAPTION}


def test_without_java_the_other_metrics_have_values(tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        columns = compare(REFERENCES[:2], {}, broken)["columns"]
    assert columns[HUMAN]["rouge_l"]["value"] > 0
    assert "Java could not be started" in columns[HUMAN]["reasons"]["meteor"]
    assert "s_m" not in columns[HUMAN]


def test_pairs_of_one_source_are_drawn_together(meteor):
    alone = compare(REFERENCES[:2], {}, meteor, resamples=50)["columns"][HUMAN]["rouge_l"]
    together = compare([*REFERENCES[:2]] * 2, {}, meteor, sources=["a", "b"] * 2, resamples=50)
    assert together["columns"][HUMAN]["rouge_l"] == pytest.approx(alone)


def test_fact_scores_of_persons(meteor):
    metrics = [Facts(), OwnPair()]
    references = [["a house is built", "a house appears"], ["trees are removed", "a lake appears"]]
    columns = compare(references, {"ours": ["a house is built", "no change"]}, meteor, optional=metrics)[
        "columns"
    ]
    assert columns[HUMAN]["fact_precision"]["value"] == 50  # the second pair's persons disagree
    assert columns["ours"]["fact_precision"]["value"] == 100
    assert columns["ours"]["fact_none"]["value"] == 50
    assert columns["ours"]["own_pair"]["value"] == pytest.approx(75)  # 100 for the first, 50 for "no change"
