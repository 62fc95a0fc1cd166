"""What tools/robustness.py reports: change decisions and S*m of every cell, their means, and plain text."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from data.perturbations import MAPS, PERTURBATIONS
from tools.bootstrap import PERCENT, interval, resampling_counts
from tools.meteor import Meteor, Segment
from tools.metrics import measure
from tools.score_table import aligned

MEASURES = {
    "false_change": "false change, %",
    "missed_change": "missed change, %",
    "change_accuracy": "change accuracy, %",
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

Samples = dict[str, np.ndarray]  # measure -> its value, then those of the bootstrap (1 + resamples,)
Intervals = dict[str, dict[str, float]]  # measure -> interval
Curve = dict[int, Intervals]  # by severity


class Cell(NamedTuple):
    """A place in the table: a perturbation, or a mean, at a severity."""

    name: str
    severity: int


CLEAN = Cell("clean", 0)


class Truth(NamedTuple):
    """What people say of the pairs: the references of each, and whether it has changed (pairs,) bool."""

    references: list[tuple[str, ...]]
    changed: np.ndarray


def score_cells(
    captions: Mapping[Cell, Sequence[str]], truth: Truth, no_change: Sequence[str], meteor: Meteor
) -> dict[Cell, Samples]:
    """The measures of every cell, all on the same resamples, and their means over perturbations."""
    draw = cache(partial(resampling_counts, resamples=BOOTSTRAP["resamples"], seed=BOOTSTRAP["seed"]))
    scores = {}
    for cell, said in captions.items():
        says_change = np.array([sentence not in no_change for sentence in said])
        scores[cell] = {
            name: 100 * draw(len(flags)) @ flags / len(flags)
            for name, flags in decisions(says_change, truth.changed).items()
        }
        segments = list(zip(said, truth.references, strict=True))
        scores[cell]["s_m"] = s_m(segments, meteor, draw(len(segments)))
    return scores | means(scores)


def decisions(says_change: np.ndarray, changed: np.ndarray) -> dict[str, np.ndarray]:
    """Measure -> the flags that it is a share of; says_change, changed (pairs,) bool."""
    return {
        "false_change": says_change[~changed],
        "missed_change": ~says_change[changed],
        "change_accuracy": says_change == changed,
    }


def s_m(segments: Sequence[Segment], meteor: Meteor, counts: np.ndarray) -> np.ndarray:
    """S*m of the corpora that hold segment i counts[..., i] times; ValueError where a scorer fails."""
    measured = measure(segments, meteor)
    scores = measured.scores(counts)
    if "s_m" not in scores:
        raise ValueError(f"S*m needs all of its scorers, these failed: {measured.missing}")
    return scores["s_m"]


def means(scores: Mapping[Cell, Samples]) -> dict[Cell, Samples]:
    """Every measure's mean over perturbations, at each severity; without a mean that takes in none."""
    found = {}
    for (mean, groups), severity in product(MEANS.items(), dict.fromkeys(cell.severity for cell in scores)):
        members = [
            samples
            for cell, samples in scores.items()
            if cell != CLEAN and cell.severity == severity and PERTURBATIONS[cell.name].group in groups
        ]
        if members:
            found[Cell(mean, severity)] = {
                name: np.mean([samples[name] for samples in members], axis=0) for name in MEASURES
            }
    return found


def as_intervals(scores: Mapping[Cell, Samples]) -> dict[str, Any]:
    """{"clean": {measure: INTERVAL}, "curves": {perturbation or mean: {severity: {measure: INTERVAL}}}}"""
    curves: dict[str, Curve] = {}
    for cell, samples in scores.items():
        intervals = {name: interval(values) for name, values in samples.items()}
        curves.setdefault(cell.name, {})[cell.severity] = intervals
    return {"clean": curves.pop(CLEAN.name)[CLEAN.severity], "curves": curves}


def tables(run: Mapping[str, Any]) -> list[str]:
    """What `as_intervals` returned as a table for each measure: perturbations and means over severity."""
    rows = {name: (run["clean"], curve) for name, curve in run["curves"].items()}
    return [_table(title, name, rows) for name, title in MEASURES.items()]


def comparison(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each mean and headline measure, with a row for each checkpoint."""
    return [
        _table(f"{title}: {mean}", name, {run["label"]: (run["clean"], run["curves"][mean]) for run in runs})
        for mean, (name, title) in product(MEANS, HEADLINES.items())
        if mean in runs[0]["curves"]
    ]


def _table(title: str, measure: str, rows: Mapping[str, tuple[Intervals, Curve]]) -> str:
    """rows: name -> clean scores and a curve; all curves have the same severities."""
    severities = next(iter(rows.values()))[1]
    cells = [[title, CLEAN.name, *map(str, severities)]]
    for name, (clean, curve) in rows.items():
        cells.append([name, *(f"{found[measure]['value']:.1f}" for found in (clean, *curve.values()))])
    return "\n".join(aligned(cells))
