"""Scores of captions against their references, with two floors and bootstrap intervals.

    with Meteor() as meteor:                                # Java starts here, in the background
        training = training_captions(reader, rows, meteor)  # of the training split, see baselines.py
        result = score(records, meteor, no_change=reader.no_change, training=training)
    print(format_table(result))                             # of tools/scoring/table.py

`score` returns what scores.json holds:

    {"ours": PARTS, "floor": PARTS, "floor_oracle": PARTS, "margin": PARTS, "released": PARTS,
     "reasons": {"ours": "...", ...}, "training_captions": {"number": 13314, "source": "the checkpoint"},
     "decision": {"caption": ACCURACY, ...}, "garbled": ACCURACY,
     "no_change": ["the scene is the same as before", ...],
     "bootstrap": {"resamples": 1000, "seed": 0, "percent": 95, "sources": 120}}
    PARTS     {"all": SCORES, "changed": SCORES, "unchanged": SCORES}; None for a part without pairs, and in
              place of a column without human words ("reasons" says so) or not asked for
    SCORES    {"pairs": 1929, "bleu_1": INTERVAL, ..., "cider": INTERVAL, "s_m": INTERVAL, "reasons": {...}};
              None for a metric without a value, "reasons" says why; the floors have their "caption" too.
              Ours and released have the optional metrics: "spice", and where it has a value "s_m_spice",
              the mean with it
    ACCURACY  {"all": RATE, "changed": RATE, "unchanged": RATE}, in per cent; None for a part without pairs
    INTERVAL  {"value": 51.5, "low": 50.1, "high": 52.9}, by bootstrap over source images
    RATE      {"value": 97.5, "low": 92.9, "high": 99.5, "n": 120}, with its exact binomial interval

A floor is the score of one training caption, said of every pair. `floor`: the caption that has the best
S*m on the same part of the training split. `floor_oracle`: the one that has the best S*m on the scored pairs
themselves, which no training caption exceeds; its "ours_above" is the INTERVAL of our S*m minus its S*m. The
margin is ours minus `floor`. Differences are taken on the same resamples.

A caption is garbled if it is empty, or neither a no-change sentence nor like the training captions
(`is_garbled`). It counts as telling of a change, so a broken decoder misses few changes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from data.errors import UserError
from data.sources import changed_as_authors
from tools.scoring.baselines import TrainingCaptions, best_constants, split_parts
from tools.scoring.bootstrap import PERCENT, interval, rate_interval, resampling_counts
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import (
    AVERAGED,
    METRICS,
    OPTIONAL_TITLES,
    Measured,
    Scores,
    measure,
    scores_from_sums,
)

PARTS = ("all", "changed", "unchanged")
OWN_COLUMNS = ("ours", "floor", "floor_oracle", "margin")  # those that need human words
NO_TRAINING_CAPTIONS = "no training captions to choose a floor from"
NO_HUMAN_WORDS = "no human words, give their JSON with --data.annotations"

Draw = Callable[[Sequence], np.ndarray]  # records -> the counts of all resamples (tools/scoring/bootstrap.py)


@dataclass(frozen=True)
class Record:
    """A pair's caption and its own human captions: words joined by blanks, without repeats that fill up.

    Where there are no human words, the stored captions stand in their place.
    """

    filename: str
    caption: str
    references: Sequence[str]
    changed: bool
    source: str | None = None  # the image that the pair was cut from; None: its own

    def __post_init__(self) -> None:
        if not self.references:
            raise UserError(f"a pair needs a human caption to be scored, {self.filename} has none")


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
    source: str | None = None


def score(
    records: Sequence[Record],
    meteor: Meteor,
    *,
    no_change: Sequence[str],
    training: TrainingCaptions | None,
    no_training: str = NO_TRAINING_CAPTIONS,
    released: Sequence[ReleasedRecord] = (),
    decisions: Mapping[str, Sequence[bool]] | None = None,
    human_words: bool = True,
    optional: Sequence[Metric] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Everything that scores.json holds, in the form given at the top of this file.

    no_change: the sentences that say "no change". training: the candidates of the floors; without them there
    are no floors, for the reason `no_training`. decisions: other predictions of "changed", a value per
    record, whose accuracy is reported beside the captions'. human_words: whether all records have human
    references; otherwise only the released column and the decision are reported. optional: metrics for the
    model's captions that a report may go without.
    """
    changed = [record.changed for record in records]
    parts = split_parts(_segments(records), changed) if human_words else dict.fromkeys(PARTS, ())
    for part in PARTS:  # METEOR works ahead of the other scorers
        meteor.submit(parts[part])
    oracles = _oracles(parts, training, meteor)
    draw = partial(_resample, resamples=resamples, seed=seed)
    drawn = {part: draw(chosen) for part, chosen in split_parts(records, changed).items()}
    compared = {
        part: _compare(part, parts[part], training, oracles.get(part), meteor, optional, drawn[part])
        for part in PARTS
    }
    averaged = {part: compared[part].pop("averaged", None) for part in PARTS}
    own = {column: {part: compared[part][column] for part in PARTS} for column in OWN_COLUMNS}
    reasons = dict.fromkeys(OWN_COLUMNS[1:], no_training) if training is None else {}
    reasons = reasons if human_words else dict.fromkeys(OWN_COLUMNS, NO_HUMAN_WORDS)
    predictions = {"caption": [record.caption not in no_change for record in records], **(decisions or {})}
    return {
        **{column: None if column in reasons else own[column] for column in OWN_COLUMNS},
        "released": _released_column(released, averaged, meteor, optional, draw) if released else None,
        "reasons": reasons,
        "training_captions": training and {"number": len(training.captions), "source": training.source},
        "decision": {name: _accuracy(predicted, changed) for name, predicted in predictions.items()},
        "garbled": training
        and _garbled([record.caption for record in records], changed, no_change, training),
        "no_change": list(no_change),
        "bootstrap": {
            "resamples": resamples,
            "seed": seed,
            "percent": PERCENT,
            "sources": len(set(_sources(records))),
        },
    }


def pair_scores(records: Sequence[Record], meteor: Meteor) -> list[dict[str, float | None]]:
    """Each pair's own bleu_4, meteor, rouge_l and cider, for captions.json; None where a scorer failed.

    CIDEr's inverse document frequencies are those of all the records.
    """
    found = scores_from_sums(measure(_segments(records), meteor).rows)
    return [
        {metric: float(found[metric][pair]) if metric in found else None for metric in AVERAGED}
        for pair in range(len(records))
    ]


def _oracles(
    parts: Mapping[str, Sequence[Segment]], training: TrainingCaptions | None, meteor: Meteor
) -> dict[str, str]:
    """Part -> the training caption that is best on its pairs."""
    references = {part: [own for _, own in segments] for part, segments in parts.items()}
    return best_constants(references, training.captions, meteor) if training else {}


def _compare(
    part: str,
    segments: Sequence[Segment],
    training: TrainingCaptions | None,
    oracle: str | None,
    meteor: Meteor,
    optional: Sequence[Metric],
    counts: np.ndarray,
) -> dict[str, dict | None]:
    """A part's columns, and the metrics that its S*m averages ("averaged")."""
    columns = dict.fromkeys(OWN_COLUMNS)
    if not segments:
        return columns
    pairs = len(segments)
    measured = measure(segments, meteor, optional=optional)
    ours = measured.scores(counts)
    columns |= {"ours": _entry(ours, measured.reasons(), pairs), "averaged": measured.averaged()}
    if training is None:
        return columns
    captions, floors = floor_and_oracle(segments, training.best_of(part), oracle, training.captions, meteor)
    floor, best = (constant.scores(counts) for constant in floors)
    margin = {metric: ours[metric] - floor[metric] for metric in ours.keys() & floor.keys()}
    # floors have no optional scores, so neither has the margin
    own_reasons = {k: why for k, why in measured.reasons().items() if k not in OPTIONAL_TITLES}
    no_margin = own_reasons | floors[0].reasons()
    above = interval(ours["s_m"] - best["s_m"]) if "s_m" in ours and "s_m" in best else None
    return columns | {
        "floor": {"caption": captions[0], **_entry(floor, floors[0].reasons(), pairs)},
        "floor_oracle": {
            "caption": captions[1],
            "ours_above": above,
            **_entry(best, floors[1].reasons(), pairs),
        },
        "margin": _entry(margin, no_margin, pairs),
    }


def floor_and_oracle(
    segments: Sequence[Segment], floor: str, oracle: str, candidates: Sequence[str], meteor: Meteor
) -> tuple[tuple[str, str], tuple[Measured, Measured]]:
    """The captions of both floors of a part, and their measurements.

    Where `best_constants` had to choose the oracle on a sample, the floor's caption, or the only caption of a
    model that always says the same training caption, may be better by chance: then it is the oracle.
    """
    said = {caption for caption, _ in segments}
    constant = said if len(said) == 1 and said <= set(candidates) else set()
    measured = {
        caption: measure([(caption, references) for _, references in segments], meteor)
        for caption in dict.fromkeys((oracle, floor, *constant))
    }
    oracle = max(measured, key=lambda caption: _mean(measured[caption]))
    return (floor, oracle), (measured[floor], measured[oracle])


def _mean(measured: Measured) -> float:
    """S*m, or the mean of what it averages that has a value."""
    pairs = len(next(iter(measured.rows.values())))
    scores = measured.scores(np.ones(pairs))
    return float(np.mean([scores[metric] for metric in measured.averaged() if metric in scores]))


def _released_column(
    records: Sequence[ReleasedRecord],
    averaged: Mapping[str, Sequence[str] | None],
    meteor: Meteor,
    optional: Sequence[Metric],
    draw: Draw,
) -> dict[str, dict | None]:
    """Scores per part, which the stored captions decide; S*m averages the same metrics as in our column."""
    changed = [changed_as_authors(record.references) for record in records]
    column = dict.fromkeys(PARTS)
    for part, chosen in split_parts(records, changed).items():
        if chosen:
            ids = [(record.caption_ids, tuple(record.references_ids)) for record in chosen]
            measured = measure(_segments(chosen), meteor, meteor_segments=ids, optional=optional)
            scores = measured.scores(draw(chosen), averaged[part])
            column[part] = _entry(scores, measured.reasons(averaged[part]), len(chosen))
    return column


def _accuracy(predicted: Sequence[bool], changed: Sequence[bool]) -> dict[str, dict | None]:
    """Share of the pairs with the right prediction of "changed", per cent, for each part."""
    right = [bool(said) == bool(true) for said, true in zip(predicted, changed, strict=True)]
    return _shares(right, changed)


def _garbled(
    captions: Sequence[str],
    changed: Sequence[bool],
    no_change: Sequence[str],
    training: TrainingCaptions,
) -> dict[str, dict | None]:
    """Share of the pairs whose caption is garbled, per cent, for each part."""
    known = {pair for caption in training.captions for pair in _word_pairs(caption)}
    return _shares([c not in no_change and is_garbled(c, known) for c in captions], changed)


def is_garbled(caption: str, known: Collection[tuple[str, str]]) -> bool:
    """Whether a caption is empty or at least half of its pairs of neighbouring words are not `known`.

    known: the pairs that occur in training captions. The beginning and the end of a caption count as words.
    """
    pairs = _word_pairs(caption)
    return not caption.split() or 2 * sum(pair not in known for pair in pairs) >= len(pairs)


def _word_pairs(caption: str) -> list[tuple[str, str]]:
    return list(pairwise(["<start>", *caption.split(), "<end>"]))


def _shares(flags: Sequence[bool], changed: Sequence[bool]) -> dict[str, dict | None]:
    """Share of the pairs that have a flag, per cent, for each part, with its exact interval."""
    return {part: rate_interval(chosen) for part, chosen in split_parts(flags, changed).items()}


def _resample(records: Sequence[Record | ReleasedRecord], resamples: int, seed: int) -> np.ndarray:
    """The counts of all resamples (1 + resamples, pairs); pairs of one source image are drawn together."""
    if not records:
        return np.ones((1 + resamples, 0))
    return resampling_counts(len(records), resamples, seed, _sources(records))


def _sources(records: Sequence[Record | ReleasedRecord]) -> list[str]:
    """The source of each pair; a pair without one is a source of its own."""
    return [record.source or f"pair {place}" for place, record in enumerate(records)]


def _entry(samples: Scores, reasons: dict[str, str], pairs: int) -> dict:
    """One part of one column: an interval or None for each metric."""
    optional = [name for name in OPTIONAL_TITLES if name in samples or name in reasons]
    metrics = (*METRICS, "s_m", *optional)
    intervals = {metric: interval(samples[metric]) if metric in samples else None for metric in metrics}
    return {"pairs": pairs, **intervals, "reasons": reasons}


def _segments(records: Sequence[Record | ReleasedRecord]) -> list[Segment]:
    return [(record.caption, tuple(record.references)) for record in records]
