"""The measures of change detection on confusion matrices small enough to score by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tools.scoring.detection import confusion, detection_scores, nothing_changed

# 100 pixels, rows found, columns true: 60 rightly unchanged, 5 missed, 10 invented, 25 changed in both
MIXED = np.zeros((7, 7), dtype=np.int64)
MIXED[0, :3] = 60, 2, 3
MIXED[1, :3] = 6, 12, 1
MIXED[2, :3] = 4, 4, 8


def percent(exact: Fraction | float) -> float:
    return pytest.approx(100 * float(exact), rel=1e-12)


def test_by_hand():
    scores = detection_scores(MIXED)
    assert scores["oa"] == percent(Fraction(80, 100))
    unchanged, changed = Fraction(60, 60 + 5 + 10), Fraction(25, 40)
    assert scores["miou"] == percent((unchanged + changed) / 2)
    # without the 60: rows 5, 19, 16, columns 10, 18, 12, of which 20 of 40 agree
    expected = Fraction(5 * 10 + 19 * 18 + 16 * 12, 40 * 40)
    kappa = (Fraction(20, 40) - expected) / (1 - expected)
    assert scores["sek"] == percent(math.exp(changed - 1) * kappa)
    precision, recall = Fraction(20, 35), Fraction(20, 30)
    assert (scores["p_scd"], scores["r_scd"]) == (percent(precision), percent(recall))
    assert (
        scores["f_scd"] == percent(2 * precision * recall / (precision + recall)) == percent(Fraction(8, 13))
    )


def test_swapped_classes_have_a_negative_kappa():
    swapped = np.zeros((7, 7), dtype=np.int64)
    swapped[0, 0], swapped[1, 2], swapped[2, 1] = 20, 5, 5
    scores = detection_scores(swapped)
    assert scores["miou"] == percent(1)
    assert scores["oa"] == percent(Fraction(20, 30))
    assert scores["sek"] == percent(-1)  # kappa (0 - 1/2) / (1 - 1/2)
    assert scores["f_scd"] == 0


def test_perfect_predictions():
    right = np.diag([50, 10, 0, 0, 0, 5, 0])
    assert detection_scores(right) == {name: percent(1) for name in detection_scores(right)}


def test_floor_predicts_no_change_on_the_same_pixels():
    floor = nothing_changed(MIXED)
    np.testing.assert_array_equal(floor.sum(0), MIXED.sum(0))
    scores = detection_scores(floor)
    assert scores["oa"] == scores["miou"] * 2 == percent(Fraction(70, 100))
    assert [scores[name] for name in ("sek", "f_scd", "p_scd", "r_scd")] == [0, 0, 0, 0]


def test_unchanged_pairs_cause_no_division_by_zero():
    unchanged = np.zeros((7, 7), dtype=np.int64)
    unchanged[0, 0] = 9
    scores = detection_scores(unchanged)
    assert (scores["oa"], scores["miou"], scores["sek"], scores["f_scd"]) == (100, 50, 0, 0)


def test_pixels_are_counted_by_prediction_and_truth():
    actual, truth = torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 1], [1, 0]])
    counted = confusion(actual, truth, 7)
    assert counted.shape == (7, 7)
    assert {(i, j): int(counted[i, j]) for i, j in np.argwhere(counted)} == {
        (0, 0): 1, (1, 1): 1, (2, 1): 1, (2, 0): 1,
    }  # fmt: skip
