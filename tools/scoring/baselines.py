"""Floors: the score of a constant caption, one training caption that is used for every pair.

METEOR needs a request for each candidate and pair, the other metrics are fast (constant_scores.py). So METEOR
decides only between the candidates that can still win (`best_constants`).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from data.splits import Reader
from tools.scoring.constant_scores import Part, References, constant_scores
from tools.scoring.meteor import Meteor, MeteorError, meteor_score
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import Measured, measure

SEGMENTS = 10_000  # maximum number of METEOR requests to compare all candidates: 8 s of an idle core
SHORTLIST = 64  # with more candidates: the minimum number that METEOR compares on a sample of the pairs
FINALISTS = 4  # and how many of these it compares on all pairs

Item = TypeVar("Item")


@dataclass(frozen=True)
class TrainingCaptions:
    """All distinct captions of a training split, and the best constant caption of each part of it.

    best: part ("all", "changed", "unchanged") -> caption; lacks a part without pairs. source: the file that
    the captions are from.
    """

    captions: Sequence[str]
    best: Mapping[str, str]
    source: str

    def best_of(self, part: str) -> str:
        """The caption of the floor; if training has no pairs of the part, the caption of all pairs."""
        return self.best.get(part, self.best["all"])


class Constant(NamedTuple):
    """A constant caption and its measurements on the pairs of a part."""

    caption: str
    measured: Measured


def training_captions(reader: Reader, rows: Sequence[int], meteor: Meteor) -> TrainingCaptions:
    """The candidates of the floors: the captions of the training pairs in use, `rows` of the file."""
    references = [tuple(reader.references[row]) for row in rows]
    captions = {}
    for texts in references:
        captions |= dict.fromkeys(texts)
    parts = split_parts(references, [bool(reader.changed[row]) for row in rows])
    return TrainingCaptions(list(captions), best_constants(parts, list(captions), meteor), str(reader.path))


def split_parts(items: Sequence[Item], changed: Sequence[bool]) -> dict[str, list[Item]]:
    """The items of each part: all, changed, unchanged."""
    parts = {"all": list(items), "changed": [], "unchanged": []}
    for item, flag in zip(items, changed, strict=True):
        parts["changed" if flag else "unchanged"].append(item)
    return parts


def best_constants(
    parts: Mapping[str, Sequence[References]],
    candidates: Sequence[str],
    meteor: Meteor,
    segments: int = SEGMENTS,
) -> dict[str, str]:
    """Part -> the candidate with the best S*m as the caption of every pair; the first of several equal ones.

    parts: the references of each pair; a part without pairs is left out. If METEOR fails, the other metrics
    decide.

    A candidate cannot win if the sum of its other metrics is lower than that of the best by more than a
    perfect METEOR. If METEOR can score all remaining candidates with at most `segments` requests, the result
    is exact. Otherwise it scores the SHORTLIST that is best by the other metrics on evenly spaced pairs, and
    the FINALISTS of these on all pairs. On the changed test pairs of LEVIR-CC, METEOR of the 1,000 best
    candidates is below 28, that of the winner is 25, and the other metrics of the 64th sum to 16 less than
    those of the winner.
    """
    counted = {part: Counter(references) for part, references in parts.items() if references}
    if not candidates or not counted:
        return {}
    best = {}
    scores = constant_scores(list(counted.values()), candidates)
    for (name, part), scores_of_part in zip(counted.items(), scores, strict=True):
        fast = sum(scores_of_part.values())
        best[name] = candidates[_best_candidate(part, candidates, fast, meteor, segments)]
    return best


def _best_candidate(
    part: Part, candidates: Sequence[str], fast: np.ndarray, meteor: Meteor, segments: int
) -> int:
    """The index of the best candidate; fast (candidates,): the sum of its metrics without METEOR."""

    def totals(indices: np.ndarray, pairs: Part) -> np.ndarray:
        return np.array([fast[index] + _meteor(pairs, candidates[index], meteor) for index in indices])

    order = np.argsort(-fast, kind="stable")
    try:
        (best,) = totals(order[:1], part)
        order = order[fast[order] + 100 >= best]
        if len(order) > segments // len(part):
            order = order[: max(segments // len(part), SHORTLIST)]
            step = math.ceil(len(part) * len(order) / segments)
            sample = dict(list(part.items())[::step])
            finalists = order[np.argsort(-totals(order, sample), kind="stable")[:FINALISTS]]
            order = np.union1d(order[:1], finalists)  # the best without METEOR is always compared
        order = np.sort(order)
        sums = totals(order, part)
    except MeteorError:
        order, sums = np.arange(len(fast)), fast
    return int(order[sums >= sums.max() - 1e-9][0])  # smaller differences are rounding errors


def _meteor(part: Part, caption: str, meteor: Meteor) -> float:
    """METEOR of a caption for every pair of the part."""
    rows = meteor.rows([(caption, references) for references in part])
    return 100 * meteor_score(np.array(list(part.values())) @ rows)


def floor_and_oracle(
    segments: Sequence[Segment],
    floor: str,
    oracle: str,
    candidates: Sequence[str],
    meteor: Meteor,
    optional: Sequence[Metric] = (),
) -> tuple[Constant, Constant]:
    """Both floors on the pairs of a part: `floor` as it is, and the best of the constant captions at hand.

    If `best_constants` chose `oracle` on a sample of the pairs, another constant caption may be better: the
    floor, or the caption of a model that gives all pairs the same training caption. Then that is the oracle.
    """
    predicted = {caption for caption, _ in segments}
    constants = {oracle: None, floor: None}
    if len(predicted) == 1 and predicted <= set(candidates):
        constants |= dict.fromkeys(predicted)
    measured = {}
    for caption in constants:
        constant = [(caption, references) for _, references in segments]
        measured[caption] = measure(constant, meteor, optional=optional)
    best = max(measured, key=lambda caption: _mean(measured[caption], len(segments)))
    return Constant(floor, measured[floor]), Constant(best, measured[best])


def _mean(measured: Measured, pairs: int) -> float:
    """S*m, or the mean of those of its metrics that have a value."""
    scores = measured.scores(np.ones(pairs))
    return float(np.mean([scores[metric] for metric in measured.averaged() if metric in scores]))
