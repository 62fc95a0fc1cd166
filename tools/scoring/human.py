"""The human line: how well a person's caption scores against the others of its pair.

A caption scored against five references is not comparable with a person's, who has four others. Here every
reference in turn is the caption and leaves the references, and all positions are pooled. Other captions (a
model's, the floor) are scored against the same lists of references, so that all columns are comparable.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tools.scoring.baselines import split_parts
from tools.scoring.bootstrap import interval, resampling_counts
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import Measured, measure

HUMAN = "human"
ONE_CAPTION = "left out, a person's caption needs another one of its pair to be scored against"
NO_PAIRS = "left out, there are no such pairs"


def human_line(
    references: Sequence[Sequence[str]],
    changed: Sequence[bool],
    systems: Mapping[str, Sequence[str]],
    meteor: Meteor,
    *,
    optional: Sequence[Metric] = (),
    sources: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict]:
    """The scores of persons and of `systems` against all references of a pair but one.

    references: the captions of each pair. changed: whether it changed. systems: the captions of each other
    column, one for each pair. sources: the image that each pair was cut from; bootstrap draws images.

    Returns part ("all", "changed", "unchanged") -> {"pairs": 964, "left_out": 0, "comparisons": 4820,
    "columns": {"human": SCORES, ...}}. SCORES holds an interval for each score and the "reasons" of those
    without a value. Pairs with a single caption are left out; where no other pair remains, "columns" is None
    and "reason" says why.
    """
    parts = split_parts(range(len(references)), changed)
    result = {}
    for part, members in parts.items():
        usable = [pair for pair in members if len(references[pair]) > 1]
        result[part] = {"pairs": len(usable), "left_out": len(members) - len(usable)}
        if not usable:
            result[part] |= {"columns": None, "reason": ONE_CAPTION if members else NO_PAIRS}
            continue
        chosen = [references[pair] for pair in usable]
        drawn = resampling_counts(
            len(usable), resamples, seed, [sources[pair] for pair in usable] if sources else None
        )
        result[part]["comparisons"] = sum(map(len, chosen))
        columns = {HUMAN: _column(leave_one_out(chosen, None), drawn, meteor, optional)}
        for name, captions in systems.items():
            rounds = leave_one_out(chosen, [captions[pair] for pair in usable])
            columns[name] = _column(rounds, drawn, meteor, optional)
        result[part]["columns"] = columns
    return result


def leave_one_out(
    references: Sequence[Sequence[str]], captions: Sequence[str] | None = None
) -> list[tuple[list[int], list[Segment]]]:
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
    positions: Sequence[tuple[list[int], list[Segment]]],
    drawn: np.ndarray,
    meteor: Meteor,
    optional: Sequence[Metric],
) -> dict:
    """SCORES of the pooled positions; drawn (resamples, pairs): how often each pair is in each sample."""
    for _, segments in positions:
        meteor.submit(segments)
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
