"""BLEU, METEOR, ROUGE-L, CIDEr and SPICE of a corpus, from numbers a pair that can be summed over any sample.

The numbers are pycocoevalcap 1.2's, over the words as they are: no tokeniser runs. Scores are times 100.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pycocoevalcap.bleu import bleu_scorer
from pycocoevalcap.cider import cider_scorer
from pycocoevalcap.rouge.rouge import Rouge

from tools.scoring.meteor import Meteor, Segment, meteor_score
from tools.scoring.spice import Spice

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
AVERAGED = ("bleu_4", "meteor", "rouge_l", "cider")  # S*m is their mean

Rows = dict[str, np.ndarray]  # bleu, meteor, rouge_l, cider, spice -> the numbers of each pair (pairs, ...)
Scores = dict[str, np.ndarray]  # metric, s_m or s_m_spice -> its scores, one per corpus (...)

# Counting the n-grams of the references once serves all the captions that they are compared with.
_cook_for_bleu = lru_cache(maxsize=4096)(bleu_scorer.cook_refs)
_cook_for_cider = lru_cache(maxsize=4096)(cider_scorer.cook_refs)


@dataclass(frozen=True)
class Measured:
    """The rows of a corpus, and why metrics have none.

    missing: metrics whose scorer failed. left_out: metrics without a value for these references, which S*m
    goes without.
    """

    rows: Rows
    missing: dict[str, str]
    left_out: dict[str, str]

    def averaged(self) -> tuple[str, ...]:
        """The metrics that S*m averages."""
        return tuple(metric for metric in AVERAGED if metric not in self.left_out)

    def scores(self, counts: np.ndarray, averaged: Sequence[str] | None = None) -> Scores:
        """Scores of the corpora with pair i counts[..., i] times: counts (..., pairs) -> (...) each.

        np.ones(pairs) gives the corpus itself. S*m, the mean of `averaged` (default: `self.averaged()`), has
        a value if all of them have; s_m_spice is the mean with SPICE. Resampled scores are exact, except
        CIDEr, which keeps the inverse document frequencies of the corpus itself.
        """
        sums = {scorer: counts @ rows for scorer, rows in self.rows.items()}
        found = scores_from_sums(sums, pairs=counts.sum(-1))
        averaged = self.averaged() if averaged is None else averaged
        if all(metric in found for metric in averaged):
            found["s_m"] = np.mean([found[metric] for metric in averaged], axis=0)
            if "spice" in found:
                found["s_m_spice"] = np.mean([found[metric] for metric in (*averaged, "spice")], axis=0)
        return found

    def reasons(self, averaged: Sequence[str] | None = None) -> dict[str, str]:
        """Why a metric has no value: metric or s_m -> reason."""
        without = self.left_out | self.missing
        needed = [
            metric for metric in (self.averaged() if averaged is None else averaged) if metric in without
        ]
        no_mean = {"s_m": f"not without {' and '.join(needed)}"} if needed else {}
        return without | no_mean


def measure(
    words: Sequence[Segment],
    meteor: Meteor,
    *,
    meteor_words: Sequence[Segment] | None = None,
    spice: Spice | None = None,
) -> Measured:
    """Run the scorers on the segments (METEOR on `meteor_words`, SPICE if given); what fails is missing.

    CIDEr is left out where the references give no n-gram an inverse document frequency (`has_idf`): even a
    perfect caption would score 0.
    """
    scorers = {
        "bleu": lambda: bleu_rows(words),
        "rouge_l": lambda: rouge_rows(words),
        "cider": lambda: cider_rows(words),
        "meteor": lambda: meteor.statistics(meteor_words or words),
    }
    if spice:
        scorers["spice"] = lambda: spice.rows(words)
    left_out = {}
    if not has_idf([references for _, references in words]):
        del scorers["cider"]
        left_out["cider"] = (
            "left out, all pairs have the same n-grams, so even a perfect caption would score 0"
        )
    rows, missing = {}, {}
    for name, scorer in scorers.items():
        try:
            rows[name] = scorer()
        except Exception as error:  # one scorer's failure must not take the others' results with it
            reason = f"{type(error).__name__}: {error}"
            missing |= {metric: reason for metric in (*METRICS, "spice") if metric.startswith(name)}
    return Measured(rows, missing, left_out)


def scores_from_sums(sums: Rows, pairs: int | np.ndarray = 1) -> Scores:
    """Scores of corpora of `pairs` pairs whose rows add up to sums[scorer] (..., numbers) -> (...) each.

    A row taken alone is a corpus of one pair: the sentence's own score.
    """
    found = {}
    if "bleu" in sums:
        found |= {f"bleu_{order}": score for order, score in enumerate(bleu_score(sums["bleu"]), start=1)}
    if "meteor" in sums:
        found["meteor"] = meteor_score(sums["meteor"])
    found |= {mean: sums[mean][..., 0] / pairs for mean in ("rouge_l", "cider", "spice") if mean in sums}
    return {metric: 100 * score for metric, score in found.items()}


def bleu_rows(segments: Sequence[Segment]) -> np.ndarray:
    """(n, 10): words of the caption and of the closest reference; 1..4-grams of the caption; those found."""

    def row(segment: Segment) -> list[int]:
        caption, references = segment
        counts = bleu_scorer.cook_test(caption, _cook_for_bleu(references), eff="closest")
        return [counts["testlen"], counts["reflen"], *counts["guess"], *counts["correct"]]

    return _rows(row, segments)


def bleu_score(sums: np.ndarray) -> np.ndarray:
    """BLEU-1..4 (0..1) of corpora whose rows add up to `sums` (..., 10) -> (4, ...).

    The two small terms are pycocoevalcap's: an empty caption scores 0.
    """
    words, reference_words, ngrams, found = np.split(sums, [1, 2, 6], axis=-1)
    precisions = (found + 1e-15) / (ngrams + 1e-9)
    brevity = np.exp(np.minimum(0, 1 - (reference_words + 1e-9) / (words + 1e-15)))
    return np.moveaxis(brevity * np.cumprod(precisions, -1) ** (1 / np.arange(1, 5)), -1, 0)


def rouge_rows(segments: Sequence[Segment]) -> np.ndarray:
    """(n, 1) ROUGE-L (0..1) of each pair, beta 1.2."""
    rouge = Rouge()
    return _rows(lambda segment: [rouge.calc_score([segment[0]], segment[1])], segments)


def has_idf(references: Sequence[tuple[str, ...]]) -> bool:
    """Whether some n-gram does not occur in the references of all pairs, so that CIDEr weights it."""
    ngrams = ({gram for text in _cook_for_cider(own) for gram in text} for own in dict.fromkeys(references))
    first = next(ngrams, set())
    return any(own != first for own in ngrams)


def cider_rows(segments: Sequence[Segment]) -> np.ndarray:
    """(n, 1) CIDEr (0..10) of each pair, with the inverse document frequencies of the n pairs given.

    The references of every pair are a document, but only distinct segments, which come first, are scored.
    """
    distinct = list(dict.fromkeys(segments))
    repeated = (Counter(segments) - Counter(distinct)).elements()
    scorer = cider_scorer.CiderScorer()
    scorer.ctest = [cider_scorer.cook_test(caption) for caption, _ in distinct]
    scorer.crefs = [_cook_for_cider(references) for _, references in (*distinct, *repeated)]
    scorer.compute_doc_freq()
    known = dict(zip(distinct, scorer.compute_cider(), strict=True))
    return _rows(lambda segment: [known[segment]], segments)


def _rows(row: Callable[[Segment], list[float]], segments: Sequence[Segment]) -> np.ndarray:
    """A row per segment, worked out once for each distinct one: unchanged pairs are mostly alike."""
    known = {segment: row(segment) for segment in dict.fromkeys(segments)}
    return np.array([known[segment] for segment in segments], float)
