"""Scores of captions against their references, beside two floors, with bootstrap intervals.

    with Meteor() as meteor:                                # starts Java in the background
        training = training_captions(reader, rows, meteor)  # of the training split
        result = score(records, meteor, no_change=reader.no_change, training=training)
    print(format_table(result))                             # of tools/scoring/table.py

`score` returns the content of scores.json (`CaptionScores` of tools/scoring/results.py).

A floor is the score of a constant caption: one training caption, used for every pair. `floor` is the caption
with the best S*m on the same part of the training split. `floor_oracle` is the one with the best S*m on the
scored pairs themselves; no other training caption scores higher. The margin is ours minus `floor`.
Differences are computed on the same resamples. `human` compares both with persons (tools/scoring/human.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from data.settings import ENGLISH_FACTS
from data.sources import changed_as_authors
from tools.scoring.baselines import Constant, TrainingCaptions, best_constants, floor_and_oracle, split_parts
from tools.scoring.bootstrap import PERCENT, interval, rate_interval, resampling_counts
from tools.scoring.fact_scores import fact_metrics, measurable_facts
from tools.scoring.garbled import find_garbled
from tools.scoring.human import ONE_CAPTION, human_scores
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Metric, Segment
from tools.scoring.metrics import (
    AVERAGED,
    FACT_TITLES,
    METRICS,
    OPTIONAL_TITLES,
    Measured,
    Scores,
    measure,
    scores_from_sums,
)
from tools.scoring.results import PARTS, CaptionScores, Column, HumanScores, PartScores, Rates

FLOOR_COLUMNS = ("floor", "floor_oracle", "margin")
HUMAN_COLUMNS = ("ours", *FLOOR_COLUMNS)  # those that need human words
NO_TRAINING_CAPTIONS = "no training captions to choose a floor from"
NO_HUMAN_WORDS = "no human words, give their JSON with --data.annotations"


@dataclass(frozen=True)
class Record:
    """The caption of a pair and the pair's references: words separated by spaces.

    references: the human captions without the repeats that pad the stored ones; where there are no human
    words, the stored captions. source: the image that the pair was cut from; None if it is an image of its
    own.
    """

    filename: str
    caption: str
    references: Sequence[str]
    changed: bool
    source: str | None = None

    def __post_init__(self) -> None:
        if not self.references:
            raise UserError(f"a pair needs a human caption to be scored, {self.filename} has none")


@dataclass(frozen=True)
class AuthorsRecord:
    """A pair as the authors' code scores it.

    references: the stored captions, decoded from their ids, with repeats and `<unk>`. caption_ids,
    references_ids: the same texts with each word replaced by its id ("12 5 88"); METEOR is computed on them.
    """

    caption: str
    references: Sequence[str]
    caption_ids: str
    references_ids: Sequence[str]
    source: str | None = None


class _Metrics(NamedTuple):
    """The metrics of an evaluation. optional: of the model's captions. facts: of all columns."""

    meteor: Meteor
    optional: Sequence[Metric]
    facts: Sequence[Metric]

    def facts_of(self, part: str) -> Sequence[Metric]:
        """Those of facts for a part of the pairs: references of unchanged pairs state no facts."""
        return () if part == "unchanged" else self.facts


Records = Sequence[Record | AuthorsRecord]
Resample = Callable[[Records], np.ndarray]  # -> the counts of all resamples (tools/scoring/bootstrap.py)


def score(
    records: Sequence[Record],
    meteor: Meteor,
    *,
    no_change: Sequence[str],
    training: TrainingCaptions | None,
    no_training: str = NO_TRAINING_CAPTIONS,
    authors: Sequence[AuthorsRecord] = (),
    decisions: Mapping[str, Sequence[bool]] | None = None,
    human_words: bool = True,
    optional: Sequence[Metric] = (),
    facts: str = ENGLISH_FACTS,
    resamples: int = 1000,
    seed: int = 0,
) -> CaptionScores:
    """Score captions with all metrics.

    no_change: the sentences that mean "no change". training: the candidates of the floors; None leaves the
    floors out, for the reason `no_training`. authors: the pairs of the column "released". decisions: other
    predictions of "changed", one value per record; their accuracy is reported beside that of the captions.
    human_words: whether all records have human references; otherwise only the column "released" and the
    decision are reported. optional: additional metrics of the model's captions. facts: the word lists of
    fact scores, as in `data.facts`.
    """
    changed = [record.changed for record in records]
    resample = partial(_resample, resamples=resamples, seed=seed)
    columns: dict[str, Column | None] = dict.fromkeys(HUMAN_COLUMNS)
    averaged: dict[str, Sequence[str]] = {}
    human = None
    if human_words:
        checked, no_facts = measurable_facts(facts, [each.references for each in records if each.changed])
        metrics = _Metrics(meteor, optional, fact_metrics(checked))
        columns, averaged = _human_columns(records, training, metrics, resample)
        human = _human_line(records, columns["floor"], metrics, resample)
        reasons = dict.fromkeys(FLOOR_COLUMNS, no_training) if training is None else {}
        reasons |= {"facts": no_facts} if no_facts else {}
        reasons |= {"human": ONE_CAPTION} if not human["all"]["columns"] else {}
    else:
        reasons = dict.fromkeys((*HUMAN_COLUMNS, "facts", "human"), NO_HUMAN_WORDS)
    if authors and (note := _authors_note(authors, changed)):
        reasons["released"] = note
    captions = [record.caption for record in records]
    predictions = {"caption": [caption not in no_change for caption in captions], **(decisions or {})}
    garbled = find_garbled(captions, no_change, training.captions) if training else []
    return {
        **columns,
        "released": _authors_column(authors, averaged, meteor, optional, resample) if authors else None,
        "human": human if human and human["all"]["columns"] else None,
        "reasons": reasons,
        "training_captions": _described(training) if training else None,
        "decision": {name: _accuracy(predicted, changed) for name, predicted in predictions.items()},
        "garbled": _shares(garbled, changed) if training else None,
        "no_change": list(no_change),
        "bootstrap": {
            "resamples": resamples,
            "seed": seed,
            "percent": PERCENT,
            "sources": len(set(sources_of(records))),
        },
    }


def _described(training: TrainingCaptions) -> dict[str, int | str]:
    """The number of training captions, and where they come from."""
    return {"number": len(training.captions), "source": training.source}


def pair_scores(records: Sequence[Record], meteor: Meteor) -> list[dict[str, float | None]]:
    """The bleu_4, meteor, rouge_l and cider of each pair, for captions.json; None if a metric failed.

    The inverse document frequencies of CIDEr are those of all records.
    """
    scores = scores_from_sums(measure(_segments(records), meteor).rows)
    entries = []
    for index in range(len(records)):
        entries.append({name: float(scores[name][index]) if name in scores else None for name in AVERAGED})
    return entries


def _human_columns(
    records: Sequence[Record], training: TrainingCaptions | None, metrics: _Metrics, resample: Resample
) -> tuple[dict[str, Column | None], dict[str, Sequence[str]]]:
    """The columns that need human words, and for each part the metrics that S*m averages."""
    changed = [record.changed for record in records]
    parts = split_parts(records, changed)
    segments = split_parts(_segments(records), changed)
    for part in PARTS:  # METEOR computes these while the other metrics run
        metrics.meteor.submit(segments[part])
    oracles = {}
    if training:
        references = split_parts([tuple(record.references) for record in records], changed)
        oracles = best_constants(references, training.captions, metrics.meteor)
    columns = {column: dict.fromkeys(PARTS) for column in HUMAN_COLUMNS}
    averaged = {}
    for part in PARTS:
        if not parts[part]:
            continue
        counts = resample(parts[part])
        facts = metrics.facts_of(part)
        ours = measure(segments[part], metrics.meteor, optional=[*metrics.optional, *facts])
        averaged[part] = ours.averaged()
        columns["ours"][part] = _part_scores(ours.scores(counts), ours.reasons(), len(parts[part]))
        if training:
            floors = floor_and_oracle(
                segments[part],
                training.best_of(part),
                oracles[part],
                training.captions,
                metrics.meteor,
                facts,
            )
            for column, scores in _floor_columns(ours, *floors, counts).items():
                columns[column][part] = scores
    return columns if training else columns | dict.fromkeys(FLOOR_COLUMNS), averaged


def _human_line(
    records: Sequence[Record], floor: Column | None, metrics: _Metrics, resample: Resample
) -> dict[str, HumanScores | None]:
    """Persons beside the model and the floor, for each part; None for a part without pairs."""
    line = dict.fromkeys(PARTS)
    for part, members in split_parts(records, [record.changed for record in records]).items():
        if not members:
            continue
        systems = {"ours": [record.caption for record in members]}
        if floor:
            systems["floor"] = [floor[part]["caption"]] * len(members)

        def resample_pairs(pairs: Sequence[int], members: Sequence[Record] = members) -> np.ndarray:
            return resample([members[pair] for pair in pairs])

        references = [record.references for record in members]
        facts = metrics.facts_of(part)
        line[part] = human_scores(references, systems, metrics.meteor, resample_pairs, optional=facts)
    return line


def _floor_columns(
    measured: Measured, floor: Constant, oracle: Constant, counts: np.ndarray
) -> dict[str, PartScores]:
    """The scores of both floors on a part, and the margin."""
    pairs = counts.shape[1]
    ours = measured.scores(counts)
    floor_scores, oracle_scores = floor.measured.scores(counts), oracle.measured.scores(counts)
    margin = {metric: ours[metric] - floor_scores[metric] for metric in ours.keys() & floor_scores.keys()}
    # of the optional scores, floors have only those of facts, so neither has the margin others
    reasons = {name: why for name, why in measured.reasons().items() if name not in OPTIONAL_TITLES}
    floor_reasons = floor.measured.reasons()
    columns = {
        "floor": _part_scores(floor_scores, floor_reasons, pairs),
        "floor_oracle": _part_scores(oracle_scores, oracle.measured.reasons(), pairs),
        "margin": _part_scores(margin, reasons | floor_reasons, pairs),
    }
    columns["floor"]["caption"], columns["floor_oracle"]["caption"] = floor.caption, oracle.caption
    has_s_m = "s_m" in ours and "s_m" in oracle_scores
    columns["floor_oracle"]["ours_above"] = interval(ours["s_m"] - oracle_scores["s_m"]) if has_s_m else None
    return columns


def _authors_column(
    records: Sequence[AuthorsRecord],
    averaged: Mapping[str, Sequence[str]],
    meteor: Meteor,
    optional: Sequence[Metric],
    resample: Resample,
) -> Column:
    """Scores by the authors' procedure; the stored captions decide which pairs have changed.

    averaged: the metrics that S*m averages in each part of our column, and in this one.
    """
    changed = [changed_as_authors(record.references) for record in records]
    column = dict.fromkeys(PARTS)
    for part, members in split_parts(records, changed).items():
        if members:
            ids = [(record.caption_ids, tuple(record.references_ids)) for record in members]
            measured = measure(_segments(members), meteor, meteor_segments=ids, optional=optional)
            scores = measured.scores(resample(members), averaged.get(part))
            column[part] = _part_scores(scores, measured.reasons(averaged.get(part)), len(members))
    return column


def _authors_note(records: Sequence[AuthorsRecord], changed: Sequence[bool]) -> str | None:
    """A remark on unchanged pairs that the authors' procedure counts as changed; None without any."""
    unchanged = [record for record, flag in zip(records, changed, strict=False) if not flag]
    taken = sum(changed_as_authors(record.references) for record in unchanged)
    if not taken:
        return None
    return (
        f"the authors' procedure counts {taken} of {len(unchanged)} unchanged pairs as changed, because it "
        "looks for SECOND-CC's no-change sentences alone, in the second caption of a pair"
    )


def _accuracy(predicted: Sequence[bool], changed: Sequence[bool]) -> Rates:
    """Share of the pairs with the correct prediction of "changed", per cent, for each part."""
    return _shares([bool(guess) == truth for guess, truth in zip(predicted, changed, strict=True)], changed)


def _shares(flags: Sequence[bool], changed: Sequence[bool]) -> Rates:
    """Share of the pairs with a flag, per cent, for each part."""
    return {part: rate_interval(members) for part, members in split_parts(flags, changed).items()}


def _resample(records: Records, resamples: int, seed: int) -> np.ndarray:
    """The counts of all resamples (1 + resamples, pairs); pairs of one source image are drawn together."""
    return resampling_counts(len(records), resamples, seed, sources_of(records))


def sources_of(records: Records) -> list[str]:
    """The source of each pair; a pair without one is a source of its own."""
    return [record.source or f"pair {index}" for index, record in enumerate(records)]


def _part_scores(samples: Scores, reasons: dict[str, str], pairs: int) -> PartScores:
    """An interval or None for each metric; optional metrics only where they were measured."""
    optional = [name for name in (*OPTIONAL_TITLES, *FACT_TITLES) if name in samples or name in reasons]
    metrics = (*METRICS, "s_m", *optional)
    intervals = {metric: interval(samples[metric]) if metric in samples else None for metric in metrics}
    return {"pairs": pairs, **intervals, "reasons": reasons}


def _segments(records: Records) -> list[Segment]:
    return [(record.caption, tuple(record.references)) for record in records]
