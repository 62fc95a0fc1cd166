"""What tools/robustness.py reports: change decisions and S*m of every cell, their means, and plain text."""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

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
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Segment
from tools.scoring.metrics import measure
from tools.scoring.table import aligned

MEASURES = {
    "false_change": "false-change rate, %",
    "missed_change": "missed-change rate, %",
    "change_accuracy": "change-decision accuracy, %",
    "s_m": "S*m",
}
HEADLINES = {name: MEASURES[name] for name in ("false_change", "s_m")}
IMAGES_MEAN = f"mean of all but {MAPS}"
MEANS = {  # each takes in the perturbations of some groups
    **{f"mean of {kind.group}": (kind.group,) for kind in PERTURBATIONS.values() if kind.group != MAPS},
    IMAGES_MEAN: tuple({kind.group for kind in PERTURBATIONS.values()} - {MAPS}),
    f"mean of {MAPS}": (MAPS,),
}
BOOTSTRAP = {"resamples": 1000, "seed": 0, "percent": PERCENT}

Intervals = dict[str, dict[str, float] | None]  # measure -> interval with its n; None where n is 0
Curve = dict[int, Intervals]  # by severity


class Cell(NamedTuple):
    """A place in the table: a perturbation, or a mean, at a severity."""

    name: str
    severity: int


CLEAN = Cell("clean", 0)


class Truth(NamedTuple):
    """The references of each pair, whether it has changed (pairs,) bool, and the image it was cut from."""

    references: list[tuple[str, ...]]
    changed: np.ndarray
    sources: list[str]


class Sample(NamedTuple):
    """One measure of one cell.

    values: of the pairs, then of each resample (1 + resamples,); NaN where no pair counts. n: the pairs that
    count. flags: for a rate, those pairs' flags, by which two models are compared pair by pair; among: which
    of all pairs these are (pairs,) bool.
    """

    values: np.ndarray
    n: int
    flags: np.ndarray | None = None
    among: np.ndarray | None = None


Samples = dict[str, Sample]  # by measure


def score_cells(
    captions: Mapping[Cell, Sequence[str]],
    altered: Mapping[Cell, np.ndarray],
    truth: Truth,
    no_change: Collection[str],
    meteor: Meteor,
) -> dict[Cell, Samples]:
    """The measures of every cell, all on the same resamples, and their means over perturbations.

    altered: for each cell which pairs (pairs,) bool its perturbation altered. Rates count these alone: a pair
    that looks as before says nothing about the perturbation. S*m is that of all pairs.
    """
    counts = resampling_counts(len(truth.changed), BOOTSTRAP["resamples"], BOOTSTRAP["seed"], truth.sources)
    scores = {}
    for cell, predicted in captions.items():
        predicts_change = np.array([caption not in no_change for caption in predicted])
        scores[cell] = decision_rates(predicts_change, truth.changed, altered[cell], counts)
        segments = list(zip(predicted, truth.references, strict=True))
        scores[cell]["s_m"] = Sample(s_m(segments, meteor, counts), len(segments))
    return scores | means(scores)


def decision_rates(
    predicts_change: np.ndarray, changed: np.ndarray, altered: np.ndarray, counts: np.ndarray
) -> Samples:
    """The rates of a cell in per cent; all arguments (pairs,) bool, but for counts (1 + resamples, pairs)."""
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
    """S*m of the corpora that hold segment i counts[..., i] times; UserError where a scorer fails."""
    measured = measure(segments, meteor)
    scores = measured.scores(counts)
    if "s_m" not in scores:
        raise UserError(f"S*m needs all of its scorers, these failed: {measured.missing}")
    return scores["s_m"]


def means(scores: Mapping[Cell, Samples]) -> dict[Cell, Samples]:
    """Every measure's mean over the perturbations of some groups, at each severity.

    A perturbation that altered none of the pairs that a rate counts is left out of that rate's mean.
    """
    found = {}
    for (mean, groups), severity in product(MEANS.items(), dict.fromkeys(cell.severity for cell in scores)):
        members = [
            samples
            for cell, samples in scores.items()
            if cell != CLEAN and cell.severity == severity and PERTURBATIONS[cell.name].group in groups
        ]
        if members:
            found[Cell(mean, severity)] = {name: _mean([m[name] for m in members]) for name in MEASURES}
    return found


def _mean(members: Sequence[Sample]) -> Sample:
    """The mean of the samples that have a value; n: all their pairs, each once for every perturbation."""
    counted = [member for member in members if member.n]
    if len(counted) < 2:
        return (counted or members)[0]
    values = np.stack([member.values for member in counted])
    present = ~np.isnan(values)
    total = np.where(present, values, 0).sum(axis=0)
    mean = np.divide(total, present.sum(axis=0), out=np.full(len(total), np.nan), where=present.any(axis=0))
    return Sample(mean, sum(member.n for member in counted))


def as_intervals(scores: Mapping[Cell, Samples]) -> dict[str, Any]:
    """{"clean": {measure: INTERVAL}, "curves": {perturbation or mean: {severity: {measure: INTERVAL}}}}

    INTERVAL has value, low, high and n; None where no pair counts. Rates of one perturbation have exact
    binomial intervals, all others those of the bootstrap.
    """
    curves: dict[str, Curve] = {}
    for cell, samples in scores.items():
        intervals = {name: _interval(sample) for name, sample in samples.items()}
        curves.setdefault(cell.name, {})[cell.severity] = intervals
    return {"clean": curves.pop(CLEAN.name)[CLEAN.severity], "curves": curves}


def _interval(sample: Sample) -> dict[str, float] | None:
    if not sample.n:
        return None
    if sample.flags is not None:
        return rate_interval(sample.flags)
    return {**interval(sample.values), "n": sample.n}


def differences(first: Mapping[Cell, Samples], second: Mapping[Cell, Samples]) -> dict[str, Any]:
    """second - first of every cell and measure, in the form of `as_intervals`, each with its p-value.

    Both models saw the same pairs, altered alike: intervals are those of the paired bootstrap, p-values too,
    but for rates of one perturbation, which get the exact McNemar test.
    """
    curves: dict[str, Curve] = {}
    for cell, samples in first.items():
        found = {name: _difference(samples[name], second[cell][name]) for name in MEASURES}
        curves.setdefault(cell.name, {})[cell.severity] = found
    return {"clean": curves.pop(CLEAN.name)[CLEAN.severity], "curves": curves}


def _difference(first: Sample, second: Sample) -> dict[str, float] | None:
    if not first.n or first.n != second.n:
        return None
    if first.flags is not None and not np.array_equal(first.among, second.among):
        return None  # detected maps can differ in which pairs a perturbation alters
    found = {**paired_difference(first.values, second.values), "n": first.n}
    if first.flags is not None:
        found["p"] = mcnemar_test(first.flags, second.flags)
    return found


def trained_on(name: str, augment: Collection[str]) -> str:
    """Whether a model was trained on a perturbation, or on those of a mean, as the end of a title."""
    of_mean = [kind for kind in PERTURBATIONS if PERTURBATIONS[kind].group in MEANS.get(name, ())]
    members = of_mean or [name]
    count = sum(member in augment for member in members)
    if not set(augment) & set(PERTURBATIONS):
        return ""
    return " (held out)" if not count else " (trained)" if count == len(members) else " (partly trained)"


def tables(run: Mapping[str, Any]) -> list[str]:
    """What `as_intervals` returned as a table for each measure: perturbations and means over severity."""
    augment = run.get("augment", ())
    rows = {name + trained_on(name, augment): (run["clean"], curve) for name, curve in run["curves"].items()}
    return [_table(title, name, rows) for name, title in MEASURES.items()]


def comparison(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each mean and headline measure: a row for each checkpoint, and its difference to the
    first."""
    found = []
    for mean, (name, title) in product(MEANS, HEADLINES.items()):
        if mean not in runs[0]["curves"]:
            continue
        rows = {}
        for run in runs:
            label = run["label"] + trained_on(mean, run.get("augment", ()))
            rows[label] = (run["clean"], run["curves"][mean])
        table = _table(f"{title}: {mean}", name, rows)
        found.append("\n".join([table, *_difference_lines(runs, mean, name)]))
    return found


def _difference_lines(runs: Sequence[Mapping[str, Any]], mean: str, measure: str) -> list[str]:
    """For each later checkpoint and severity: the difference to the first, its interval and p-value."""
    lines = []
    for run in runs[1:]:
        for severity, intervals in run["difference"]["curves"][mean].items():
            if own := intervals[measure]:
                span = f"[{own['low']:.1f}, {own['high']:.1f}]"
                what = f"{run['label']} - {runs[0]['label']}, severity {severity}"
                lines.append(f"{what}: {own['value']:+.1f} {span}, p {own['p']:.3f}")
    return lines


def _table(title: str, measure: str, rows: Mapping[str, tuple[Intervals, Curve]]) -> str:
    """rows: name -> clean scores and a curve; all curves have the same severities. n: at the first one."""
    severities = next(iter(rows.values()))[1]
    cells = [[title, CLEAN.name, *map(str, severities), "n"]]
    for name, (clean, curve) in rows.items():
        shown = [found[measure] for found in (clean, *curve.values())]
        values = [f"{own['value']:.1f}" if own else "-" for own in shown]
        numbers = sorted({own["n"] if own else 0 for own in shown[1:]})
        n = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        cells.append([name, *values, n])
    return aligned(cells)
