"""BLEU-1 to BLEU-4 (Papineni et al., 2002) as pycocoevalcap 1.2 computes them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from pycocoevalcap.bleu import bleu_scorer

from tools.scoring.metric import Metric, Segment, rows_of_distinct

# Counting the n-grams of the references once serves all captions that they are compared with.
_count_ngrams = lru_cache(maxsize=4096)(bleu_scorer.cook_refs)


class Bleu(Metric):
    """BLEU of a corpus: its rows are counts of words and n-grams."""

    name = "bleu"
    titles: ClassVar = {f"bleu_{order}": f"BLEU-{order}" for order in range(1, 5)}
    averaged = ("bleu_4",)

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 10): words of the caption and of the closest reference; 1..4-grams of the caption; matches."""

        def row(segment: Segment) -> list[int]:
            caption, references = segment
            counts = bleu_scorer.cook_test(caption, _count_ngrams(references), eff="closest")
            return [counts["testlen"], counts["reflen"], *counts["guess"], *counts["correct"]]

        return rows_of_distinct(row, segments)

    @classmethod
    def scores(cls, sums: np.ndarray, pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(cls.titles, bleu_score(sums), strict=True))


def bleu_score(sums: np.ndarray) -> np.ndarray:
    """BLEU-1..4 (0..1) of corpora whose rows sum to `sums` (..., 10) -> (4, ...).

    The small constants are those of pycocoevalcap; an empty caption scores 0.
    """
    words, reference_words, ngrams, matches = np.split(sums, [1, 2, 6], axis=-1)
    precisions = (matches + 1e-15) / (ngrams + 1e-9)
    brevity = np.exp(np.minimum(0, 1 - (reference_words + 1e-9) / (words + 1e-15)))
    return np.moveaxis(brevity * np.cumprod(precisions, -1) ** (1 / np.arange(1, 5)), -1, 0)
