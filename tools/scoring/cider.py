"""CIDEr (Vedantam et al., 2015) as pycocoevalcap 1.2 computes it."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from pycocoevalcap.cider import cider_scorer

from tools.scoring.metric import Metric, Segment, rows_of_distinct

# Counting the n-grams of the references once serves all captions that they are compared with.
_count_ngrams = lru_cache(maxsize=4096)(cider_scorer.cook_refs)


class Cider(Metric):
    """CIDEr, the mean over pairs, with the inverse document frequencies of the measured pairs."""

    name = "cider"
    titles: ClassVar = {"cider": "CIDEr"}
    averaged = ("cider",)

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        return cider_rows(segments)

    @classmethod
    def reason_to_leave_out(cls, references: Sequence[tuple[str, ...]]) -> str | None:
        if has_idf(references):
            return None
        return "left out, all pairs have the same n-grams, so even a perfect caption would score 0"


def has_idf(references: Sequence[tuple[str, ...]]) -> bool:
    """Whether some n-gram does not occur in the references of all pairs, so that CIDEr weights it."""
    first = None
    for texts in dict.fromkeys(references):
        ngrams = set().union(*_count_ngrams(texts))
        if first is None:
            first = ngrams
        elif ngrams != first:
            return True
    return False


def cider_rows(segments: Sequence[Segment]) -> np.ndarray:
    """(n, 1) CIDEr (0..10) of each pair, with the inverse document frequencies of the n pairs given.

    The references of every pair are a document, but only distinct segments, which come first, are scored.
    """
    distinct = list(dict.fromkeys(segments))
    repeated = (Counter(segments) - Counter(distinct)).elements()
    scorer = cider_scorer.CiderScorer()
    scorer.ctest = [cider_scorer.cook_test(caption) for caption, _ in distinct]
    scorer.crefs = [_count_ngrams(references) for _, references in (*distinct, *repeated)]
    scorer.compute_doc_freq()
    known = dict(zip(distinct, scorer.compute_cider(), strict=True))
    return rows_of_distinct(lambda segment: [known[segment]], segments)
