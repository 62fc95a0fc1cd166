"""Own-pair rank: how well a caption finds its own pair among all pairs of the split.

A caption that suits every pair finds none. Pairs are represented by the TF-IDF weights of the 1- to 4-grams
of their references; a caption ranks them by cosine similarity.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from pycocoevalcap.cider.cider_scorer import precook
from scipy import sparse

from tools.scoring.metric import Metric, Segment

ORDERS = 4
BLOCK = 1024  # captions whose similarities are computed together: 1024 x pairs x 8 bytes
DIGITS = 9  # smaller differences in similarity are rounding errors, and count as ties


class OwnPair(Metric):
    """Mean percentile of the own pair (100: always first), and the share of captions that rank it first or
    among the first ten. Ties count half, so a constant caption has a mean percentile of exactly 50."""

    name = "own_pair"
    titles: ClassVar = {
        "own_pair": "own pair",
        "own_pair_1": "own pair first",
        "own_pair_10": "own pair in first 10",
    }
    optional = True

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 3): percentile (0..1), and the probability that the own pair is first, in the first ten."""
        better, ties = ranks(segments)
        others = max(len(segments) - 1, 1)
        worse = len(segments) - 1 - better - ties
        percentile = (worse + ties / 2) / others if len(segments) > 1 else np.full(1, 0.5)
        first, first_ten = (np.clip((k - better) / (ties + 1), 0, 1) for k in (1, 10))
        return np.stack([percentile, first, first_ten], axis=1)

    @classmethod
    def scores(cls, sums: np.ndarray, pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        return {name: sums[..., column] / pairs for column, name in enumerate(cls.titles)}

    @classmethod
    def reason_to_leave_out(cls, references: Sequence[tuple[str, ...]]) -> str | None:
        return None if len(set(references)) > 1 else "left out, all pairs have the same references"


def ranks(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """For each caption the number of other pairs that are more similar than its own, and as similar."""
    distinct = list(dict.fromkeys(caption for caption, _ in segments))
    weights, to_weights = _pair_weights([references for _, references in segments])
    members: dict[str, list[int]] = {}
    for pair, (caption, _) in enumerate(segments):
        members.setdefault(caption, []).append(pair)
    better, ties = np.zeros(len(segments)), np.zeros(len(segments))
    for start in range(0, len(distinct), BLOCK):
        block = distinct[start : start + BLOCK]
        similarities = (to_weights([[caption] for caption in block]) @ weights.T).toarray().round(DIGITS)
        for caption, row in zip(block, similarities, strict=True):
            own = row[members[caption]]
            ordered = np.sort(row)
            below, up_to = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
            better[members[caption]] = len(row) - up_to
            ties[members[caption]] = up_to - below - 1
    return better, ties


def _pair_weights(
    references: Sequence[Sequence[str]],
) -> tuple[sparse.csr_array, Callable[[Sequence[Sequence[str]]], sparse.csr_array]]:
    """TF-IDF rows (pairs, n-grams) of length 1, and the function that gives those of other texts."""
    columns: dict[tuple[str, ...], int] = {}
    counts = _counts(references, columns, grow=True)
    frequency = np.bincount(counts.indices, minlength=len(columns))
    idf = np.log((1 + len(references)) / (1 + frequency)) + 1

    def to_weights(texts: Sequence[Sequence[str]]) -> sparse.csr_array:
        return _normalised(_counts(texts, columns, grow=False) * idf)

    return _normalised(counts * idf), to_weights


def _counts(
    documents: Sequence[Sequence[str]], columns: dict[tuple[str, ...], int], *, grow: bool
) -> sparse.csr_array:
    """(documents, n-grams) how often each n-gram of 1 to 4 words occurs in the texts of a document.

    columns: the column of each n-gram. grow: new n-grams get a column; otherwise they are not counted.
    """
    data, indices, starts = [], [], [0]
    for texts in documents:
        counts = Counter()
        for text in texts:
            counts.update(precook(text, ORDERS))
        for gram, count in counts.items():
            column = columns.setdefault(gram, len(columns)) if grow else columns.get(gram)
            if column is not None:
                indices.append(column)
                data.append(count)
        starts.append(len(data))
    return sparse.csr_array((np.array(data, float), indices, starts), shape=(len(documents), len(columns)))


def _normalised(rows: sparse.csr_array) -> sparse.csr_array:
    """The rows scaled to length 1; empty rows stay empty."""
    rows = sparse.csr_array(rows)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    return sparse.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ rows
