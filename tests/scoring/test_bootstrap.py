import numpy as np
import pytest

from tools.scoring.bootstrap import (
    interval,
    mcnemar_test,
    paired_difference,
    rate_interval,
    resampling_counts,
)


def test_first_row_is_the_sample_itself_and_all_draw_as_many():
    counts = resampling_counts(7, resamples=50, seed=0)
    assert counts.shape == (51, 7)
    assert (counts[0] == 1).all()
    assert (counts.sum(1) == 7).all()
    assert len(np.unique(counts, axis=0)) > 40


def test_result_depends_on_the_seed():
    first, again, other = (resampling_counts(9, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_interval_of_a_mean_agrees_with_theory():
    right = np.arange(400) % 2  # a share of one half: 1.96 * sqrt(0.25 / 400) on either side
    actual = interval(resampling_counts(400, resamples=4000, seed=0) @ right / 400)
    assert actual["value"] == 0.5
    assert actual["low"] == pytest.approx(0.5 - 0.049, abs=0.005)
    assert actual["high"] == pytest.approx(0.5 + 0.049, abs=0.005)


def test_one_pair_has_no_spread():
    samples = resampling_counts(1, resamples=10, seed=0) @ np.array([3.0])
    assert interval(samples) == {"value": 3, "low": 3, "high": 3}


def test_pairs_of_one_source_are_drawn_together():
    sources = ["a", "a", "b", "c", "c", "c"]
    counts = resampling_counts(6, resamples=200, seed=0, sources=sources)
    assert (counts[0] == 1).all()
    assert np.array_equal(counts[:, 0], counts[:, 1])
    assert np.array_equal(counts[:, 3], counts[:, 5])
    assert (counts[:, [0, 2, 3]].sum(1) == 3).all()


def test_sources_of_one_pair_each_are_drawn_as_pairs():
    alone = resampling_counts(5, resamples=50, seed=3)
    assert np.array_equal(resampling_counts(5, resamples=50, seed=3, sources=list("abcde")), alone)
    assert np.array_equal(resampling_counts(5, resamples=50, seed=3, sources=["a"] * 5), alone)


def test_similar_tiles_widen_the_interval():
    right = np.repeat(np.arange(40) % 2, 10)  # ten tiles of each of 40 sources
    sources = [str(source) for source in np.repeat(np.arange(40), 10)]
    widths = []
    for names in (None, sources):
        counts = resampling_counts(400, resamples=2000, seed=0, sources=names)
        actual = interval(counts @ right / counts.sum(1))
        widths.append(actual["high"] - actual["low"])
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(10), rel=0.1)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 34, 0, 10.28), (52, 52, 93.15, 100), (4, 34, 3.30, 27.45), (1, 2, 1.26, 98.74)],
)
def test_exact_intervals_of_rates_are_those_of_published_tables(hits, n, low, high):
    actual = rate_interval([True] * hits + [False] * (n - hits))
    assert (actual["value"], actual["n"]) == (pytest.approx(100 * hits / n), n)
    assert (actual["low"], actual["high"]) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_a_rate_of_no_pairs_has_no_value():
    assert rate_interval([]) is None


def test_mcnemar_counts_the_pairs_that_differ():
    first, second = [True] * 4 + [False] * 30, [False] * 34
    assert mcnemar_test(first, second) == pytest.approx(0.125)
    assert mcnemar_test(first, first) == 1
    assert mcnemar_test([True] * 9 + [False], [False] * 9 + [True]) == pytest.approx(22 / 1024)


def test_paired_difference_ignores_common_variation():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=1001) * 10
    better = paired_difference(shared, shared + 1 + 0.1 * rng.normal(size=1001))
    assert 0.5 < better["low"] < better["value"] + 0.5
    assert better["p"] < 0.01
    same = paired_difference(shared, shared + rng.normal(size=1001))
    assert same["p"] > 0.05
