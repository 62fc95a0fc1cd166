"""Intervals and tests: bootstrap over sources (Efron, 1979), exact binomial intervals and paired tests."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, binomtest

from tools.scoring.results import Interval, Rate

PERCENT = 95


def resampling_counts(
    pairs: int, resamples: int, seed: int, sources: Sequence[str] | None = None
) -> np.ndarray:
    """(1 + resamples, pairs): how often each pair occurs in each sample.

    Row 0 is the real sample with every pair once; the others are drawn with replacement. The product with a
    matrix (pairs, numbers) holds the sums over every sample.

    sources: the image that each pair was cut from. Pairs of one image are correlated, so they are drawn
    together: a sample has as many sources as there are, and its number of pairs varies. With a single source,
    or without `sources`, pairs are drawn independently.
    """
    of_pair = np.arange(pairs)
    if sources is not None and len(set(sources)) > 1:
        of_pair = np.unique(np.array(sources, dtype=object), return_inverse=True)[1]
    units = int(of_pair.max()) + 1
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    return np.vstack([np.ones(pairs), draws[:, of_pair]])


def interval(samples: np.ndarray) -> Interval:
    """The value (samples[0]) with the bounds of the middle 95 % of the resampled ones (1 + resamples,).

    A resample without a value (NaN) is left out of the bounds.
    """
    tail = (100 - PERCENT) / 2
    low, high = np.nanpercentile(samples[1:], [tail, 100 - tail])
    return {"value": float(samples[0]), "low": float(low), "high": float(high)}


def rate_interval(flags: Sequence[bool]) -> Rate | None:
    """Share of true flags in per cent, with its exact interval (Clopper-Pearson, 1934); None without flags.

    The interval has a width even at 0 and 100 %. It treats pairs as independent, so it is too narrow if
    several come from one source image.
    """
    n, hits = len(flags), int(np.sum(flags))
    if n == 0:
        return None
    tail = (1 - PERCENT / 100) / 2
    low = beta.ppf(tail, hits, n - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, n - hits) if hits < n else 1.0
    return {"value": 100 * hits / n, "low": 100 * float(low), "high": 100 * float(high), "n": n}


def paired_difference(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """second - first on the same resamples (1 + resamples,) each, with its interval and two-sided p-value."""
    differences = second - first
    resampled = differences[1:][~np.isnan(differences[1:])]
    beyond = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
    return {**interval(differences), "p": min(1.0, 2 * (1 + int(beyond)) / (1 + len(resampled)))}


def mcnemar_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Exact two-sided p-value for equal rates of two systems' flags on the same pairs (McNemar, 1947)."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0
