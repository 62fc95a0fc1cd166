"""Bootstrap intervals (Efron, 1979): how far a score would move on another draw of test pairs."""

import numpy as np

PERCENT = 95


def resampling_counts(pairs: int, resamples: int, seed: int) -> np.ndarray:
    """(1 + resamples, pairs): how often each pair stands in each sample.

    Row 0 is the real sample, every pair once; the others are draws of `pairs` pairs with replacement. Times a
    matrix with a row of numbers per pair, it gives their sums over every sample at once.
    """
    draws = np.random.default_rng(seed).multinomial(pairs, np.full(pairs, 1 / pairs), size=resamples)
    return np.vstack([np.ones(pairs), draws])


def interval(samples: np.ndarray) -> dict[str, float]:
    """The value (samples[0]) with the bounds of the middle 95 % of the resampled ones (1 + resamples,)."""
    tail = (100 - PERCENT) / 2
    low, high = np.percentile(samples[1:], [tail, 100 - tail])
    return {"value": float(samples[0]), "low": float(low), "high": float(high)}
