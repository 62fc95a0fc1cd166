"""AUROC, Brier score and reliability, computed by hand."""

import numpy as np
import pytest

from tools.scoring.bootstrap import resampling_counts
from tools.scoring.change_scores import auroc, change_scores

PROBABILITIES = [0.1, 0.4, 0.4, 0.95, 1.0]
CHANGED = [False, True, False, False, True]


def test_scores_of_five_pairs():
    counts = resampling_counts(5, 200, 0)
    scores = change_scores(PROBABILITIES, CHANGED, counts, calibrated=True)
    # 0.4 beats 0.1, ties with 0.4 and loses to 0.95; 1.0 beats all three: 4.5 of 6
    assert scores["auroc"]["value"] == pytest.approx(4.5 / 6)
    # (0.01 + 0.36 + 0.16 + 0.9025 + 0) / 5
    assert scores["brier"]["value"] == pytest.approx(0.2865)
    assert scores["brier_of_rate"]["value"] == pytest.approx(0.4 * 0.6)
    for name in ("auroc", "brier", "brier_of_rate"):
        assert scores[name]["low"] < scores[name]["value"] < scores[name]["high"] or name == "brier_of_rate"
    bins = [
        (each["low"], each["pairs"], each["mean"], each["changed"]["value"]) for each in scores["reliability"]
    ]
    assert bins == [
        (0.1, 1, pytest.approx(0.1), 0),
        (0.4, 2, pytest.approx(0.4), 50),
        (0.9, 2, pytest.approx(0.975), 50),
    ]


def test_auroc_of_a_resample_is_that_of_its_pairs():
    probabilities, outcomes = np.array(PROBABILITIES), np.array(CHANGED, float)
    counts = np.array([[1, 2, 0, 3, 0], [0, 0, 1, 1, 0]])
    first, second = auroc(probabilities, outcomes, counts)
    assert first == pytest.approx(
        2 * 1 / (2 * 4)
    )  # both copies of 0.4 beat 0.1 and lose to the three of 0.95
    assert np.isnan(second)  # no changed pair


def test_one_kind_of_pairs_has_no_auroc():
    counts = resampling_counts(2, 50, 0)
    scores = change_scores([0.2, 0.3], [True, True], counts, calibrated=False)
    assert scores["auroc"] is None
    assert scores["brier"]["value"] == pytest.approx((0.64 + 0.49) / 2)
