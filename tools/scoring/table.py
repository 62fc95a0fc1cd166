"""The scores as plain text, as eval.py prints them."""

from collections.abc import Sequence

from tabulate import tabulate

from tools.scoring.bootstrap import PERCENT
from tools.scoring.metrics import METRIC_TITLES, OPTIONAL_TITLES
from tools.scoring.results import PARTS, CaptionScores, Interval, Rates

ROWS = ("ours", "floor", "floor_oracle", "margin", "released")
RANGE = f"{PERCENT} %"
TITLES = ("pairs", *METRIC_TITLES.values(), RANGE)


def format_table(result: CaptionScores) -> str:
    """Scores, change decision, the captions of the floors, and the reasons for missing scores."""
    notes = [*_floor_lines(result), *missing_lines(result), *_interval_lines(result)]
    return "\n\n".join([_score_table(result), _decision_table(result), "\n".join(notes)])


def _score_table(result: CaptionScores) -> str:
    """A row for each part and column; an optional score has a column if it has a value in one of them."""
    scores_of = {}
    for part in PARTS:
        for column in ROWS:
            if scores := (result[column] or {}).get(part):
                scores_of[f"{part} {column}"] = scores
    optional = []
    for name in OPTIONAL_TITLES:
        if any(scores.get(name) for scores in scores_of.values()):
            optional.append(name)
    rows = [["", *TITLES, *map(OPTIONAL_TITLES.get, optional)]]
    for name, scores in scores_of.items():
        values = [_value(scores[metric]) for metric in METRIC_TITLES]
        optional_values = [_value(scores.get(metric)) for metric in optional]
        rows.append([name, str(scores["pairs"]), *values, _range(scores["s_m"]), *optional_values])
    return aligned(rows)


def _decision_table(result: CaptionScores) -> str:
    rows = [["change-decision accuracy, %"]]
    for part in PARTS:
        rows[0] += [part, RANGE]
    for name, accuracy in result["decision"].items():
        rows.append([f"by the {name}", *_rate_cells(accuracy)])
    if result["garbled"]:
        rows.append(["garbled captions", *_rate_cells(result["garbled"])])
    return aligned(rows)


def _rate_cells(rates: Rates) -> list[str]:
    """The value and the range of each part."""
    cells = []
    for part in PARTS:
        cells += [_value(rates[part]), _range(rates[part])]
    return cells


def _interval_lines(result: CaptionScores) -> list[str]:
    """A remark on the intervals if several pairs were cut from one image."""
    sources, pairs = result["bootstrap"].get("sources"), result["decision"]["caption"]["all"].get("n")
    if not sources or not pairs or sources == pairs:
        return []
    if sources == 1:
        return [
            f"the {pairs} pairs come from one source image: intervals treat them as independent and are too "
            "narrow"
        ]
    return [
        f"the {pairs} pairs come from {sources} source images, which the intervals of scores resample; the "
        "intervals of rates treat pairs as independent"
    ]


def _floor_lines(result: CaptionScores) -> list[str]:
    """The captions of the floors, and how far our S*m is above the best constant caption."""
    lines = []
    for part in PARTS:
        if floor := (result["floor"] or {}).get(part):
            lines.append(f'floor of {part} (best constant caption of training): "{floor["caption"]}"')
        if oracle := (result["floor_oracle"] or {}).get(part):
            above = oracle["ours_above"]
            lines.append(
                f'floor_oracle of {part} (best on these pairs): "{oracle["caption"]}"; '
                f"our S*m minus its S*m: {_value(above)} ({_range(above)})"
            )
    source = result["training_captions"]
    if lines and source:
        lines.append(f"floors chosen from {source['number']} training captions ({source['source']})")
    return lines


def missing_lines(result: CaptionScores) -> list[str]:
    """A line for each reason, with the columns that it holds for; with parts if it does not hold for all."""
    columns_of: dict[str, list[str]] = {}
    for column in ROWS:
        if column in result["reasons"]:
            columns_of.setdefault(result["reasons"][column], []).append(column)
        parts_of: dict[str, list[str]] = {}
        parts = {part: scores for part, scores in (result.get(column) or {}).items() if scores}
        for part, scores in parts.items():
            for metric, reason in scores["reasons"].items():
                parts_of.setdefault(f"no {metric}: {reason}", []).append(f"{part} {column}")
        for line, names in parts_of.items():
            columns_of.setdefault(line, []).extend([column] if len(names) == len(parts) else names)
    return [f"{reason} ({', '.join(names)})" for reason, names in columns_of.items()]


def _value(interval: Interval | None) -> str:
    return _number(interval["value"]) if interval else "-"


def _range(interval: Interval | None) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}" if interval else "-"


def _number(score: float) -> str:
    return f"{round(score, 1) + 0:.1f}"  # + 0 turns -0.0 into 0.0


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A text table of a header row and others: the first column to the left, the others to the right."""
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, headers="firstrow", tablefmt="plain", colalign=sides, disable_numparse=True)
