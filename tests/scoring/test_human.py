"""The human line: every reference against the others of its pair, all positions pooled."""

import numpy as np
import pytest

from tools.scoring.human import HUMAN, NO_PAIRS, ONE_CAPTION, human_line, leave_one_out
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import measure

REFERENCES = [
    ["a house is built", "a house appears", "one house is built near the road"],
    ["trees are removed", "the trees disappear"],
    ["a lonely caption"],
    ["there is no difference", "no change has occurred", "nothing has changed"],
]
CHANGED = [True, True, True, False]
MODEL = ["a house appears", "trees are removed", "a lonely caption", "there is no difference"]


@pytest.fixture(scope="module")
def result(meteor):
    return human_line(REFERENCES, CHANGED, {"ours": MODEL}, meteor, resamples=20)


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
    assert {name: result["all"][name] for name in ("pairs", "left_out", "comparisons")} == {
        "pairs": 3,
        "left_out": 1,
        "comparisons": 8,
    }
    assert result["changed"]["pairs"] == 2
    assert result["unchanged"]["left_out"] == 0


def test_rouge_by_hand(meteor):
    references = [["a b", "a c"], ["d", "d"]]
    columns = human_line(references, [True, True], {"ours": ["a b", "d"]}, meteor, resamples=5)["all"][
        "columns"
    ]
    # persons: "a b" against "a c" has ROUGE-L 1/2 both ways, "d" against "d" 1 both ways
    assert columns[HUMAN]["rouge_l"]["value"] == pytest.approx(75)
    # ours: "a b" against "a c" 1/2 and against "a b" 1, "d" 1 twice
    assert columns["ours"]["rouge_l"]["value"] == pytest.approx(100 * 3.5 / 4)


def test_bleu_pools_the_counts_of_all_positions(meteor, result):
    segments = [
        (caption, tuple(own[:place] + own[place + 1 :]))
        for own in (REFERENCES[0], REFERENCES[1])
        for place, caption in enumerate(own)
    ]
    pooled = measure(segments, meteor).scores(np.ones(len(segments)))
    found = result["changed"]["columns"][HUMAN]
    for metric in ("bleu_1", "bleu_4", "meteor", "rouge_l"):
        assert found[metric]["value"] == pytest.approx(float(pooled[metric])), metric


def test_a_copy_of_the_persons_scores_as_all_persons_do_where_all_say_the_same(meteor):
    references = [["a house is built"] * 3, ["trees are removed now"] * 3]
    line = human_line(references, [True, True], {"ours": [own[0] for own in references]}, meteor, resamples=5)
    columns = line["all"]["columns"]
    assert columns["ours"] == columns[HUMAN]
    assert columns[HUMAN]["bleu_4"]["value"] == pytest.approx(100)


def test_parts_without_usable_pairs_say_why(meteor):
    line = human_line([["one caption"]], [True], {}, meteor)
    assert line["changed"] == {"pairs": 0, "left_out": 1, "columns": None, "reason": ONE_CAPTION}
    assert line["unchanged"]["reason"] == NO_PAIRS


def test_without_java_the_other_metrics_have_values(tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        columns = human_line(REFERENCES, CHANGED, {}, broken, resamples=5)["changed"]["columns"]
    assert columns[HUMAN]["rouge_l"]["value"] > 0
    assert "Java could not be started" in columns[HUMAN]["reasons"]["meteor"]
    assert "s_m" not in columns[HUMAN]


def test_pairs_of_one_source_are_drawn_together(meteor):
    kwargs = {"changed": [True] * 2, "systems": {}, "meteor": meteor, "resamples": 50}
    alone = human_line(REFERENCES[:2], **kwargs)["all"]["columns"][HUMAN]["rouge_l"]
    together = human_line([*REFERENCES[:2]] * 2, **(kwargs | {"changed": [True] * 4}), sources=["a", "b"] * 2)
    assert together["all"]["columns"][HUMAN]["rouge_l"] == pytest.approx(alone)
