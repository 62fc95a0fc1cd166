import numpy as np
import pytest

from tools.bootstrap import interval, resampling_counts


def test_first_row_is_the_sample_itself_and_all_draw_as_many():
    counts = resampling_counts(7, resamples=50, seed=0)
    assert counts.shape == (51, 7)
    assert (counts[0] == 1).all()
    assert (counts.sum(1) == 7).all()
    assert len(np.unique(counts, axis=0)) > 40


def test_the_seed_decides():
    first, again, other = (resampling_counts(9, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_interval_of_a_mean_is_the_one_of_theory():
    right = np.arange(400) % 2  # a share of one half: 1.96 * sqrt(0.25 / 400) on either side
    found = interval(resampling_counts(400, resamples=4000, seed=0) @ right / 400)
    assert found["value"] == 0.5
    assert found["low"] == pytest.approx(0.5 - 0.049, abs=0.005)
    assert found["high"] == pytest.approx(0.5 + 0.049, abs=0.005)


def test_one_pair_has_no_spread():
    samples = resampling_counts(1, resamples=10, seed=0) @ np.array([3.0])
    assert interval(samples) == {"value": 3, "low": 3, "high": 3}
