"""The interface of a caption metric. Each metric is a file of this package and an entry in metrics.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

Segment = tuple[str, tuple[str, ...]]  # a caption and the references of its pair


class Metric(ABC):
    """Turns every pair into numbers whose sums over a corpus give the corpus's scores.

    name: of the metric. titles: the names of its scores in scores.json -> their titles in tables. averaged:
    those of its scores that S*m averages. optional: it is measured only where it is asked for, and reports
    may lack it.
    """

    name: ClassVar[str]
    titles: ClassVar[Mapping[str, str]]
    averaged: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[bool] = False

    @abstractmethod
    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, numbers) of the n segments. An exception leaves the metric out of the report, as the reason."""

    @classmethod
    def scores(cls, sums: np.ndarray, pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        """The scores (0..1) of corpora of `pairs` pairs whose rows sum to `sums` (..., numbers).

        By default, rows have one number, and the score is its mean.
        """
        return {cls.name: sums[..., 0] / pairs}

    @classmethod
    def reason_to_leave_out(cls, references: Sequence[tuple[str, ...]]) -> str | None:
        """The reason why the metric has no value for pairs with these references; None if it has one."""
        return None


def rows_of_distinct(row: Callable[[Segment], Sequence[float]], segments: Sequence[Segment]) -> np.ndarray:
    """(n, numbers): `row` of every segment, called once for each distinct one (unchanged pairs repeat)."""
    known = {segment: row(segment) for segment in dict.fromkeys(segments)}
    return np.array([known[segment] for segment in segments], float)
