"""The scores as plain text, as eval.py shows them."""

from collections.abc import Sequence

from tabulate import tabulate

from tools.scoring import PARTS
from tools.scoring.bootstrap import PERCENT
from tools.scoring.metrics import METRIC_TITLES, OPTIONAL_TITLES

ROWS = ("ours", "floor", "floor_oracle", "margin", "released")
RANGE = f"{PERCENT} %"
TITLES = ("pairs", *METRIC_TITLES.values(), RANGE)


def format_table(result: dict) -> str:
    """What `tools.scoring.score` returned: scores, change decision, the floor's captions, what is missing."""
    notes = [*_floor_lines(result), *missing_lines(result), *_interval_lines(result)]
    return "\n\n".join([_score_table(result), _decision_table(result), "\n".join(notes)])


def _score_table(result: dict) -> str:
    """A row for each part and column; optional scores have a column where one of them has a value."""
    scores_of = {}
    for part in PARTS:
        for column in ROWS:
            if scores := (result[column] or {}).get(part):
                scores_of[f"{part} {column}"] = scores
    optional = [name for name in OPTIONAL_TITLES if any(scores.get(name) for scores in scores_of.values())]
    rows = [["", *TITLES, *(OPTIONAL_TITLES[name] for name in optional)]]
    for name, scores in scores_of.items():
        values = [_value(scores[metric]) for metric in METRIC_TITLES]
        optional_values = [_value(scores.get(metric)) for metric in optional]
        rows.append([name, str(scores["pairs"]), *values, _range(scores["s_m"]), *optional_values])
    return aligned(rows)


def _decision_table(result: dict) -> str:
    rows = [["change-decision accuracy, %", *(title for part in PARTS for title in (part, RANGE))]]
    for name, accuracy in result["decision"].items():
        rows.append([f"by the {name}"])
        for part in PARTS:
            rows[-1] += [_value(accuracy[part]), _range(accuracy[part])]
    if garbled := result["garbled"]:
        rows.append(
            ["garbled captions", *(show(garbled[part]) for part in PARTS for show in (_value, _range))]
        )
    return aligned(rows)


def _interval_lines(result: dict) -> list[str]:
    """What the intervals rest on where several pairs were cut from one image."""
    sources, pairs = result["bootstrap"].get("sources"), result["decision"]["caption"]["all"].get("n")
    if not sources or not pairs or sources == pairs:
        return []
    if sources == 1:
        return [
            f"the {pairs} pairs come from one source image: intervals take them as independent, too narrow"
        ]
    return [
        f"the {pairs} pairs come from {sources} source images, which the intervals of scores resample; the "
        "intervals of rates take pairs as independent"
    ]


def _floor_lines(result: dict) -> list[str]:
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
    found = result["training_captions"]
    if lines and found:
        lines.append(f"floors chosen from {found['number']} training captions ({found['source']})")
    return lines


def missing_lines(result: dict) -> list[str]:
    """Each reason once, with the columns that it holds for, or their parts where it does not for all."""
    places: dict[str, list[str]] = {}
    for column in ROWS:
        if column in result["reasons"]:
            places.setdefault(result["reasons"][column], []).append(column)
        parts = {part: scores["reasons"] for part, scores in (result.get(column) or {}).items() if scores}
        for metric, reason in dict.fromkeys(found for own in parts.values() for found in own.items()):
            where = [f"{part} {column}" for part, own in parts.items() if own.get(metric) == reason]
            places.setdefault(f"no {metric}: {reason}", []).extend(
                [column] if len(where) == len(parts) else where
            )
    return [f"{reason} ({', '.join(where)})" for reason, where in places.items()]


def _value(interval: dict | None) -> str:
    return _number(interval["value"]) if interval else "-"


def _range(interval: dict | None) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}" if interval else "-"


def _number(score: float) -> str:
    return f"{round(score, 1) + 0:.1f}"  # + 0: no minus before a zero


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A text table of a header row and others: the first column to the left, the others to the right."""
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, headers="firstrow", tablefmt="plain", colalign=sides, disable_numparse=True)
