"""The tables that tools/robustness.py prints."""

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from data.perturbations import PERTURBATIONS
from tools.scoring.table import aligned
from tools.studies.perturbation_scores import CLEAN, HEADLINES, MEANS, MEASURES, Curve, Intervals, Run


def trained_on(name: str, augment: Collection[str]) -> str:
    """A suffix for titles: whether a model was trained on a perturbation, or on those of a mean."""
    if not set(augment) & set(PERTURBATIONS):
        return ""
    groups = MEANS.get(name, ())
    members = [member for member in PERTURBATIONS if PERTURBATIONS[member].group in groups] or [name]
    count = sum(member in augment for member in members)
    if count == 0:
        return " (held out)"
    return " (trained)" if count == len(members) else " (partly trained)"


def tables(run: Run) -> list[str]:
    """A table for each measure of a run: a row per perturbation and mean, a column per severity."""
    augment = run.get("augment", ())
    rows = {}
    for name, curve in run["curves"].items():
        rows[name + trained_on(name, augment)] = (run["clean"], curve)
    return [_table(title, name, rows) for name, title in MEASURES.items()]


def comparison(runs: Sequence[Run]) -> list[str]:
    """A table for each mean and headline measure: a row per checkpoint, then differences to the first."""
    texts = []
    for mean, (name, title) in product(MEANS, HEADLINES.items()):
        if mean not in runs[0]["curves"]:
            continue
        rows = {}
        for run in runs:
            label = run["label"] + trained_on(mean, run.get("augment", ()))
            rows[label] = (run["clean"], run["curves"][mean])
        table = _table(f"{title}: {mean}", name, rows)
        texts.append("\n".join([table, *_difference_lines(runs, mean, name)]))
    return texts


def _difference_lines(runs: Sequence[Run], mean: str, measure: str) -> list[str]:
    """A line per later checkpoint and severity: the difference to the first, its interval and p-value."""
    lines = []
    for run in runs[1:]:
        for severity, intervals in run["difference"]["curves"][mean].items():
            if difference := intervals[measure]:
                title = f"{run['label']} - {runs[0]['label']}, severity {severity}"
                span = f"[{difference['low']:.1f}, {difference['high']:.1f}]"
                lines.append(f"{title}: {difference['value']:+.1f} {span}, p {difference['p']:.3f}")
    return lines


def _table(title: str, measure: str, rows: Mapping[str, tuple[Intervals, Curve]]) -> str:
    """Format a measure as a table.

    rows: name -> clean scores and a curve; all curves have the same severities. The last column is n, or its
    range over the severities.
    """
    severities = next(iter(rows.values()))[1]
    cells = [[title, CLEAN.name, *map(str, severities), "n"]]
    for name, (clean, curve) in rows.items():
        row, numbers = [name], []
        for scores in (clean, *curve.values()):
            interval = scores[measure]
            row.append(f"{interval['value']:.1f}" if interval else "-")
            numbers.append(interval["n"] if interval else 0)
        least, most = min(numbers[1:]), max(numbers[1:])
        cells.append([*row, str(least) if least == most else f"{least}-{most}"])
    return aligned(cells)
