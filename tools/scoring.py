"""Scores of captions against their references, each beside its floor and with a bootstrap interval.

    with Meteor() as meteor:                                # Java starts here, in the background
        result = score(records, meteor, no_change=NO_CHANGE_SENTENCES, common_captions=commonest)
    print(format_table(result))                             # of tools/score_table.py

`score` returns what scores.json holds:

    {"ours": PARTS, "floor": PARTS, "margin": PARTS, "released": PARTS, "reasons": {"ours": "...", ...},
     "decision": {"caption": ACCURACY, ...}, "no_change": ["the scene is the same as before", ...],
     "bootstrap": {"resamples": 1000, "seed": 0, "percent": 95}}
    PARTS     {"all": SCORES, "changed": SCORES, "unchanged": SCORES}; None for a part without pairs, and in
              place of a column without human words ("reasons" says so) or not asked for
    SCORES    {"pairs": 1929, "bleu_1": INTERVAL, ..., "cider": INTERVAL, "s_m": INTERVAL, "reasons": {...}};
              None for a metric without a value, "reasons" says why; the floor's have their "caption" too.
              Ours and released have "spice", and where it has a value "s_m_spice", the mean with it
    ACCURACY  {"all": INTERVAL, "changed": INTERVAL, "unchanged": INTERVAL}, in per cent
    INTERVAL  {"value": 51.5, "low": 50.1, "high": 52.9}

The floor of a part is its best constant caption by S*m. The margin is ours minus the floor, on the same
resamples: its interval is that of the difference.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from data.sources import changed_as_released
from tools.bootstrap import PERCENT, interval, resampling_counts
from tools.meteor import Meteor, Segment
from tools.metrics import AVERAGED, METRICS, Measured, Scores, measure, scores_from_sums
from tools.spice import Spice

PARTS = ("all", "changed", "unchanged")
OWN_COLUMNS = ("ours", "floor", "margin")  # those that need human words
NO_HUMAN_WORDS = "no human words, give their JSON with --data.annotations"

Draw = Callable[[int], np.ndarray]  # a number of pairs -> the counts of all resamples (tools/bootstrap.py)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Record:
    """A pair's caption and its own human captions: words joined by blanks, without repeats that fill up.

    Where there are no human words, the stored captions stand in their place.
    """

    filename: str
    caption: str
    references: Sequence[str]
    changed: bool

    def __post_init__(self) -> None:
        if not self.references:
            raise ValueError(f"a pair needs a human caption to be scored, {self.filename} has none")


@dataclass(frozen=True)
class ReleasedRecord:
    """A pair as the released code scores it.

    `references`: its stored captions, read back from their ids with repeats and `<unk>`. METEOR gets
    `caption_ids` and `references_ids`: the same words, each replaced by its id ("12 5 88").
    """

    caption: str
    references: Sequence[str]
    caption_ids: str
    references_ids: Sequence[str]


def score(
    records: Sequence[Record],
    meteor: Meteor,
    *,
    no_change: Sequence[str],
    common_captions: Sequence[str] = (),
    released: Sequence[ReleasedRecord] = (),
    decisions: Mapping[str, Sequence[bool]] | None = None,
    human_words: bool = True,
    spice: Spice | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Everything that scores.json holds, in the form given at the top of this file.

    no_change: the sentences that say "no change". common_captions: the commonest training captions, which the
    changed part's floor is chosen from (if there are none, from no_change). decisions: other predictions of
    "changed", a value per record, whose accuracy is to stand beside the captions'. human_words: whether the
    records have any; if not, the released column and the decision are all there is.
    """
    changed = [record.changed for record in records]
    parts = _split(_segments(records), changed) if human_words else dict.fromkeys(PARTS, ())
    said = no_change or common_captions
    candidates = {"all": said, "changed": common_captions or said, "unchanged": said}
    for part in PARTS:  # METEOR works ahead of the other scorers, in the order in which it will be asked
        meteor.submit(parts[part])
        meteor.submit(constant_segments(parts[part], candidates[part]))
    draw = partial(resampling_counts, resamples=resamples, seed=seed)
    compared = {part: _compare(part, parts[part], candidates[part], meteor, spice, draw) for part in PARTS}
    own = {column: {part: compared[part][column] for part in PARTS} for column in OWN_COLUMNS}
    predictions = {"caption": [record.caption not in no_change for record in records], **(decisions or {})}
    return {
        **(own if human_words else dict.fromkeys(OWN_COLUMNS)),
        "released": _released_column(released, meteor, spice, draw) if released else None,
        "reasons": {} if human_words else dict.fromkeys(OWN_COLUMNS, NO_HUMAN_WORDS),
        "no_change": list(no_change),
        "decision": {name: _accuracy(predicted, changed, draw) for name, predicted in predictions.items()},
        "bootstrap": {"resamples": resamples, "seed": seed, "percent": PERCENT},
    }


def constant_segments(segments: Sequence[Segment], candidates: Sequence[str]) -> Iterator[Segment]:
    """What the floor is chosen from: each candidate as the caption of every pair."""
    return ((caption, references) for caption in candidates for _, references in segments)


def pair_scores(records: Sequence[Record], meteor: Meteor) -> list[dict[str, float | None]]:
    """Each pair's own bleu_4, meteor, rouge_l and cider, for captions.json; None where a scorer failed.

    CIDEr's inverse document frequencies are those of all the records.
    """
    found = scores_from_sums(measure(_segments(records), meteor).rows)
    return [
        {metric: float(found[metric][pair]) if metric in found else None for metric in AVERAGED}
        for pair in range(len(records))
    ]


def _compare(
    part: str,
    segments: Sequence[Segment],
    candidates: Sequence[str],
    meteor: Meteor,
    spice: Spice | None,
    draw: Draw,
) -> dict[str, dict | None]:
    """A part's scores: ours, the floor's, and the margin between them on the same resamples."""
    if not segments:
        return dict.fromkeys(OWN_COLUMNS)
    counts, pairs = draw(len(segments)), len(segments)
    measured = measure(segments, meteor, unchanged=part == "unchanged", spice=spice)
    caption, constant = best_constant(part, segments, candidates, meteor)
    ours, floor = measured.scores(counts), constant.scores(counts)
    margin = {metric: ours[metric] - floor[metric] for metric in ours.keys() & floor.keys()}
    no_margin = measured.reasons() | constant.reasons()
    no_margin.pop("spice", None)  # it would parse every candidate's sentences: the floor goes without
    return {
        "ours": _entry(ours, measured.reasons(), pairs),
        "floor": {"caption": caption, **_entry(floor, constant.reasons(), pairs)},
        "margin": _entry(margin, no_margin, pairs),
    }


def best_constant(
    part: str, segments: Sequence[Segment], candidates: Sequence[str], meteor: Meteor
) -> tuple[str, Measured]:
    """The candidate with the best S*m; where metrics are missing, with the best mean of those all have."""
    measured, found = {}, {}
    for caption in candidates:
        constant = list(constant_segments(segments, [caption]))
        measured[caption] = measure(constant, meteor, unchanged=part == "unchanged")
        found[caption] = measured[caption].scores(np.ones(len(segments)))
    common = [metric for metric in AVERAGED if all(metric in scores for scores in found.values())]
    best = max(candidates, key=lambda caption: sum(found[caption][metric] for metric in common))
    return best, measured[best]


def _released_column(
    records: Sequence[ReleasedRecord], meteor: Meteor, spice: Spice | None, draw: Draw
) -> dict[str, dict | None]:
    """Scores per part, which are told apart by the stored captions."""
    changed = [changed_as_released(record.references) for record in records]
    column = dict.fromkeys(PARTS)
    for part, chosen in _split(records, changed).items():
        if chosen:
            ids = [(record.caption_ids, tuple(record.references_ids)) for record in chosen]
            unchanged = part == "unchanged"
            measured = measure(_segments(chosen), meteor, meteor_words=ids, unchanged=unchanged, spice=spice)
            column[part] = _entry(measured.scores(draw(len(chosen))), measured.reasons(), len(chosen))
    return column


def _accuracy(predicted: Sequence[bool], changed: Sequence[bool], draw: Draw) -> dict[str, dict | None]:
    """Share of the pairs whose change was told rightly, per cent, for each part."""
    right = [bool(said) == bool(true) for said, true in zip(predicted, changed, strict=True)]
    return {
        part: interval(100 * draw(len(chosen)) @ np.array(chosen, float) / len(chosen)) if chosen else None
        for part, chosen in _split(right, changed).items()
    }


def _entry(samples: Scores, reasons: dict[str, str], pairs: int) -> dict:
    """One part of one column: an interval or None for each metric."""
    with_spice = (name for name in ("spice", "s_m_spice") if name in samples or name in reasons)
    metrics = (*METRICS, "s_m", *with_spice)
    intervals = {metric: interval(samples[metric]) if metric in samples else None for metric in metrics}
    return {"pairs": pairs, **intervals, "reasons": reasons}


def _segments(records: Sequence[Record | ReleasedRecord]) -> list[Segment]:
    return [(record.caption, tuple(record.references)) for record in records]


def _split(items: Sequence[Item], changed: Sequence[bool]) -> dict[str, list[Item]]:
    """The items of each part."""
    flagged = list(zip(items, changed, strict=True))
    return {
        "all": list(items),
        "changed": [item for item, flag in flagged if flag],
        "unchanged": [item for item, flag in flagged if not flag],
    }
