"""The human line: how well a person's caption scores against the others of its pair.

A caption scored against five references is not comparable with a person's, who has four others. Here every
reference in turn is the caption and leaves the references, and all positions are pooled. Other captions (a
model's, the floor) are scored against the same lists of references, so that all columns are comparable.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tools.scoring.bootstrap import interval
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import Measured, measure
from tools.scoring.results import HumanScores

HUMAN = "human"
ONE_CAPTION = "no human scores: a person's caption needs another one of its pair to be scored against"

Positions = list[tuple[list[int], list[Segment]]]


def human_scores(
    references: Sequence[Sequence[str]],
    systems: Mapping[str, Sequence[str]],
    meteor: Meteor,
    resample: Callable[[Sequence[int]], np.ndarray],
    *,
    optional: Sequence[Metric] = (),
) -> HumanScores:
    """The scores of persons and of `systems` against all references of a pair but one.

    references: the captions of each pair of a part. systems: the captions of each other column, one for each
    pair. resample: gives for the indices of the pairs that are left how often each occurs in each sample,
    (1 + resamples, pairs). Pairs with a single caption are left out.
    """
    usable = [pair for pair, texts in enumerate(references) if len(texts) > 1]
    counts = {"pairs": len(usable), "left_out": len(references) - len(usable)}
    if not usable:
        return {**counts, "comparisons": 0, "columns": {}, "reason": ONE_CAPTION}
    chosen = [references[pair] for pair in usable]
    positions = {HUMAN: leave_one_out(chosen)}
    for name, captions in systems.items():
        positions[name] = leave_one_out(chosen, [captions[pair] for pair in usable])
    for of_column in positions.values():  # METEOR computes these while the other metrics run
        for _, segments in of_column:
            meteor.submit(segments)
    drawn = resample(usable)
    columns = {name: _column(own, drawn, meteor, optional) for name, own in positions.items()}
    return {**counts, "comparisons": sum(map(len, chosen)), "columns": columns}


def leave_one_out(references: Sequence[Sequence[str]], captions: Sequence[str] | None = None) -> Positions:
    """For each position of a reference the pairs that have one there, and their segments without it.

    captions: the caption of each pair; None: the reference that is left out.
    """
    positions = []
    for position in range(max(map(len, references))):
        pairs = [pair for pair, own in enumerate(references) if position < len(own)]
        segments = []
        for pair in pairs:
            own = references[pair]
            caption = own[position] if captions is None else captions[pair]
            segments.append((caption, (*own[:position], *own[position + 1 :])))
        positions.append((pairs, segments))
    return positions


def _column(
    positions: Positions, drawn: np.ndarray, meteor: Meteor, optional: Sequence[Metric]
) -> dict[str, dict]:
    """The scores of the pooled positions and the "reasons" of those without a value.

    drawn (resamples, pairs): how often each pair is in each sample.
    """
    pairs = [pair for members, _ in positions for pair in members]
    pooled = _pooled([measure(segments, meteor, optional=optional) for _, segments in positions])
    scores = pooled.scores(drawn[:, pairs])
    return {name: interval(samples) for name, samples in scores.items()} | {"reasons": pooled.reasons()}


def _pooled(measured: Sequence[Measured]) -> Measured:
    """All rows below each other; a metric without a value at one position has none."""
    missing, left_out = {}, {}
    common = set(measured[0].rows)
    for position in measured:
        missing |= position.missing
        left_out |= position.left_out
        common &= position.rows.keys()
    rows = {}
    for name in sorted(common):
        rows[name] = np.concatenate([position.rows[name] for position in measured])
    return Measured(rows, missing, left_out)
