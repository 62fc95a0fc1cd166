"""Scores of probabilities of a change: AUROC, Brier score and reliability, with bootstrap intervals.

AUROC   the probability that a changed pair gets a higher probability than an unchanged one; ties count half
Brier   the mean of (probability - outcome)^2, outcome 1 for changed pairs (Brier, 1950)
"""

from collections.abc import Sequence

import numpy as np

from tools.scoring.bootstrap import interval, rate_interval
from tools.scoring.results import ChangeScores, ReliabilityBin

BINS = 10  # of equal width


def change_scores(
    probabilities: Sequence[float], changed: Sequence[bool], counts: np.ndarray, *, calibrated: bool
) -> ChangeScores:
    """Scores of the probabilities of all pairs; counts: of `resampling_counts`, (1 + resamples, pairs)."""
    probabilities, outcomes = np.asarray(probabilities, float), np.asarray(changed, float)
    pairs = counts.sum(axis=1)
    rate = counts @ outcomes / pairs
    both = bool(outcomes.any()) and not outcomes.all()
    return {
        "pairs": len(probabilities),
        "auroc": interval(auroc(probabilities, outcomes, counts)) if both else None,
        "brier": interval(counts @ (probabilities - outcomes) ** 2 / pairs),
        "brier_of_rate": interval(rate * (1 - rate)),
        "reliability": reliability(probabilities, outcomes),
        "calibrated": calibrated,
    }


def auroc(probabilities: np.ndarray, outcomes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC of each sample (1 + resamples,); NaN for a sample without changed or without unchanged pairs."""
    values, group = np.unique(probabilities, return_inverse=True)  # equal probabilities are a group
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    positive = np.add.reduceat((counts * outcomes)[:, order], starts, axis=1)  # (samples, groups)
    negative = np.add.reduceat((counts * (1 - outcomes))[:, order], starts, axis=1)
    below = negative.cumsum(axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return wins / (positive.sum(axis=1) * negative.sum(axis=1))


def reliability(probabilities: np.ndarray, outcomes: np.ndarray) -> list[ReliabilityBin]:
    """The bins of equal width that have pairs; a probability of 1 belongs to the last bin."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    table = []
    for index in np.unique(bins):
        members = bins == index
        entry = {
            "low": index / BINS,
            "high": (index + 1) / BINS,
            "pairs": int(members.sum()),
            "mean": float(probabilities[members].mean()),
            "changed": rate_interval(outcomes[members].astype(bool)),
        }
        table.append({**entry, "low": float(entry["low"]), "high": float(entry["high"])})
    return table
