"""The scores of tools/robustness.py: change-decision rates and S*m of each cell, and their means."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from data.errors import UserError
from data.perturbations import MAPS, PERTURBATIONS
from tools.scoring.bootstrap import (
    PERCENT,
    interval,
    mcnemar_test,
    paired_difference,
    rate_interval,
    resampling_counts,
)
from tools.scoring.facts import Facts
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Segment
from tools.scoring.metrics import measure
from tools.scoring.results import Rate

MEASURES = {
    "false_change": "false-change rate, %",
    "missed_change": "missed-change rate, %",
    "change_accuracy": "change-decision accuracy, %",
    "s_m": "S*m",
    "fact_f1": "fact F1",
}
HEADLINES = {name: MEASURES[name] for name in ("false_change", "s_m")}
IMAGES_MEAN = f"mean of all but {MAPS}"
MEANS = {  # name of a mean -> the groups of perturbations it covers
    **{f"mean of {kind.group}": (kind.group,) for kind in PERTURBATIONS.values() if kind.group != MAPS},
    IMAGES_MEAN: tuple({kind.group for kind in PERTURBATIONS.values()} - {MAPS}),
    f"mean of {MAPS}": (MAPS,),
}
BOOTSTRAP = {"resamples": 1000, "seed": 0, "percent": PERCENT}

Intervals = dict[str, Rate | None]  # by measure; None if n is 0
Curve = dict[int, Intervals]  # by severity


class Curves(TypedDict):
    """The measures on clean pairs, and of each perturbation and mean at each severity."""

    clean: Intervals
    curves: dict[str, Curve]


class Run(Curves):
    """A checkpoint in robustness.json. difference: to the first one, with p-values ("p")."""

    label: str
    checkpoint: str
    sha256: str
    augment: list[str]
    settings: dict[str, object]
    difference: NotRequired[Curves]


class Cell(NamedTuple):
    """A cell of the table: a perturbation, or a mean, at a severity."""

    name: str
    severity: int


CLEAN = Cell("clean", 0)


class Truth(NamedTuple):
    """The references of each pair, whether it has changed (pairs,) bool, and its source image."""

    references: list[tuple[str, ...]]
    changed: np.ndarray
    sources: list[str]


class Sample(NamedTuple):
    """One measure of one cell.

    values: on the pairs, then on each resample (1 + resamples,); NaN if no pair counts. n: number of pairs
    that count. flags: for a rate, the outcome of each counted pair, used to compare two models pair by pair.
    among: which pairs count, (pairs,) bool. members: for a mean, the samples that it averages.
    """

    values: np.ndarray
    n: int
    flags: np.ndarray | None = None
    among: np.ndarray | None = None
    members: "Sequence[Sample]" = ()


Samples = dict[str, Sample]  # by measure


def score_cells(
    captions: Mapping[Cell, Sequence[str]],
    altered: Mapping[Cell, np.ndarray],
    truth: Truth,
    no_change: Collection[str],
    meteor: Meteor,
    facts: Facts | None = None,
) -> dict[Cell, Samples]:
    """The measures of all cells, on the same resamples, and their means over perturbations.

    altered: for each cell, which pairs its perturbation altered, (pairs,) bool. Rates count only these pairs;
    S*m and fact F1 are computed on all pairs. facts: None leaves fact F1 without a value.
    """
    counts = resampling_counts(len(truth.changed), BOOTSTRAP["resamples"], BOOTSTRAP["seed"], truth.sources)
    scores = {}
    for cell, predicted in captions.items():
        predicts_change = np.array([caption not in no_change for caption in predicted])
        scores[cell] = decision_rates(predicts_change, truth.changed, altered[cell], counts)
        segments = list(zip(predicted, truth.references, strict=True))
        scores[cell]["s_m"] = Sample(s_m(segments, meteor, counts), len(segments))
        scores[cell]["fact_f1"] = fact_f1(segments, facts, counts)
    return scores | means(scores)


def decision_rates(
    predicts_change: np.ndarray, changed: np.ndarray, altered: np.ndarray, counts: np.ndarray
) -> Samples:
    """The rates of a cell in per cent. Arguments are (pairs,) bool, except counts (1 + resamples, pairs)."""
    rates = {
        "false_change": (altered & ~changed, predicts_change),
        "missed_change": (altered & changed, ~predicts_change),
        "change_accuracy": (altered, predicts_change == changed),
    }
    samples = {}
    for name, (among, flags) in rates.items():
        total = counts @ among
        hits = counts @ (among & flags)
        share = np.divide(100.0 * hits, total, out=np.full(len(counts), np.nan), where=total > 0)
        samples[name] = Sample(share, int(among.sum()), flags[among], among)
    return samples


def s_m(segments: Sequence[Segment], meteor: Meteor, counts: np.ndarray) -> np.ndarray:
    """S*m of the corpora that contain segment i counts[..., i] times. UserError if a scorer fails."""
    measured = measure(segments, meteor)
    scores = measured.scores(counts)
    if "s_m" not in scores:
        raise UserError(f"S*m needs all of its scorers, these failed: {measured.missing}")
    return scores["s_m"]


def fact_f1(segments: Sequence[Segment], facts: Facts | None, counts: np.ndarray) -> Sample:
    """Fact F1 of the corpora that contain segment i counts[..., i] times."""
    if not facts:
        return Sample(np.full(len(counts), np.nan), 0)
    scores = facts.scores(counts @ facts.rows(segments), counts.sum(-1))
    return Sample(100 * scores["fact_f1"], len(segments))


def means(scores: Mapping[Cell, Samples]) -> dict[Cell, Samples]:
    """The mean of each measure over the perturbations of some groups, at each severity.

    If a perturbation altered none of the pairs that a rate counts, it is left out of the mean of that rate.
    """
    members: dict[Cell, list[Samples]] = {}
    for mean, groups in MEANS.items():
        for cell, samples in scores.items():
            if cell != CLEAN and PERTURBATIONS[cell.name].group in groups:
                members.setdefault(Cell(mean, cell.severity), []).append(samples)
    mean_scores = {}
    for mean_cell, samples_of in members.items():
        mean_scores[mean_cell] = {}
        for name in MEASURES:
            mean_scores[mean_cell][name] = _mean([samples[name] for samples in samples_of])
    return mean_scores


def _mean(members: Sequence[Sample]) -> Sample:
    """The mean of the samples that have a value; n is the sum of their n."""
    counted = [member for member in members if member.n]
    if len(counted) < 2:
        return (counted or members)[0]
    values = np.ma.masked_invalid([member.values for member in counted])
    count = sum(member.n for member in counted)
    return Sample(values.mean(axis=0).filled(np.nan), count, members=counted)


def as_intervals(scores: Mapping[Cell, Samples]) -> Curves:
    """The scores with intervals.

    Rates of one perturbation have exact binomial intervals, S*m, fact F1 and means of rates those of the
    bootstrap. A mean of 0 or 100 %, whose resamples are all alike, has the mean of its members' bounds.
    """
    intervals = {}
    for cell, samples in scores.items():
        intervals[cell] = {name: _interval(sample) for name, sample in samples.items()}
    return _curves(intervals)


def _curves(intervals: Mapping[Cell, Intervals]) -> Curves:
    curves: dict[str, Curve] = {}
    for cell, measures in intervals.items():
        curves.setdefault(cell.name, {})[cell.severity] = measures
    return {"clean": curves.pop(CLEAN.name)[CLEAN.severity], "curves": curves}


def _interval(sample: Sample) -> Rate | None:
    if not sample.n:
        return None
    if sample.flags is not None:
        return rate_interval(sample.flags)
    bootstrapped = {**interval(sample.values), "n": sample.n}
    rates = [rate_interval(member.flags) for member in sample.members if member.flags is not None]
    if rates and bootstrapped["value"] in (0, 100):
        for bound in ("low", "high"):
            bootstrapped[bound] = sum(rate[bound] for rate in rates) / len(rates)
    return bootstrapped


def differences(first: Mapping[Cell, Samples], second: Mapping[Cell, Samples]) -> Curves:
    """second - first for each cell and measure, with p-values.

    Both models are tested on the same perturbed pairs: intervals and p-values are those of the paired
    bootstrap. The p-values of rates of a single perturbation are those of the exact McNemar test.
    """
    intervals = {}
    for cell, samples in first.items():
        intervals[cell] = {name: _difference(samples[name], second[cell][name]) for name in MEASURES}
    return _curves(intervals)


def _difference(first: Sample, second: Sample) -> Rate | None:
    """The paired difference of a measure; None if it does not count the same pairs for both models."""
    if not first.n or first.n != second.n:
        return None
    if first.flags is not None and not np.array_equal(first.among, second.among):
        return None  # detected maps can differ in which pairs a perturbation alters
    difference = {**paired_difference(first.values, second.values), "n": first.n}
    if first.flags is not None:
        difference["p"] = mcnemar_test(first.flags, second.flags)
    return difference
