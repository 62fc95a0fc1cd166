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

from tools.meteor import Meteor, Segment, meteor_score
from tools.spice import Spice

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
AVERAGED = ("bleu_4", "meteor", "rouge_l", "cider")  # S*m is their mean

Rows = dict[str, np.ndarray]  # bleu, meteor, rouge_l, cider, spice -> the numbers of each pair (pairs, ...)
Scores = dict[str, np.ndarray]  # metric, s_m or s_m_spice -> its scores, one per corpus (...)

# Counting the n-grams of the references once serves all the captions that they are compared with.
_cook_for_bleu = lru_cache(maxsize=4096)(bleu_scorer.cook_refs)
_cook_for_cider = lru_cache(maxsize=4096)(cider_scorer.cook_refs)


@dataclass(frozen=True)
class Measured:
    """The rows of a corpus, and why metrics have none: `missing` ones failed, `left_out` have no meaning."""

    rows: Rows
    missing: dict[str, str]
    left_out: dict[str, str]

    def scores(self, counts: np.ndarray) -> Scores:
        """Scores of the corpora with pair i counts[..., i] times: counts (..., pairs) -> (...) each.

        np.ones(pairs) gives the corpus itself. S*m is there if all that it averages is; s_m_spice is the
        mean with SPICE. Resampled scores are exact, but for CIDEr, which keeps the inverse document
        frequencies of the corpus itself.
        """
        sums = {scorer: counts @ rows for scorer, rows in self.rows.items()}
        found = scores_from_sums(sums, pairs=counts.shape[-1])
        averaged = [metric for metric in AVERAGED if metric not in self.left_out]
        if all(metric in found for metric in averaged):
            found["s_m"] = np.mean([found[metric] for metric in averaged], axis=0)
            if "spice" in found:
                found["s_m_spice"] = np.mean([found[metric] for metric in (*averaged, "spice")], axis=0)
        return found

    def reasons(self) -> dict[str, str]:
        """Why a metric has no value: metric or s_m -> reason."""
        averaged = [metric for metric in AVERAGED if metric in self.missing]
        no_mean = {"s_m": f"not without {' and '.join(averaged)}"} if averaged else {}
        return self.left_out | self.missing | no_mean


def measure(
    words: Sequence[Segment],
    meteor: Meteor,
    *,
    meteor_words: Sequence[Segment] | None = None,
    unchanged: bool = False,
    spice: Spice | None = None,
) -> Measured:
    """Run the scorers on the segments (METEOR on `meteor_words`, SPICE if given); what fails is missing.

    CIDEr is left out where even a perfect caption would score 0 for want of an inverse document frequency: on
    `unchanged` pairs alone, whose references are all alike, and on a single pair.
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
    if unchanged or len(words) == 1:
        del scorers["cider"]
        left_out["cider"] = "left out, references that are all alike have no inverse document frequency"
    rows, missing = {}, {}
    for name, scorer in scorers.items():
        try:
            rows[name] = scorer()
        except Exception as error:  # one scorer's failure must not take the others' results with it
            reason = f"{type(error).__name__}: {error}"
            missing |= {metric: reason for metric in (*METRICS, "spice") if metric.startswith(name)}
    return Measured(rows, missing, left_out)


def scores_from_sums(sums: Rows, pairs: int = 1) -> Scores:
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
