"""The scores as plain text, as eval.py shows them."""

from collections.abc import Sequence

from tools.bootstrap import PERCENT
from tools.metrics import METRICS
from tools.scoring import PARTS

ROWS = ("ours", "floor", "margin", "released")
RANGE = f"{PERCENT} %"
TITLES = ("pairs", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "S*m", RANGE)
SPICE_TITLES = {"spice": "SPICE", "s_m_spice": "S*m of 5"}


def format_table(result: dict) -> str:
    """What `tools.scoring.score` returned: scores, change decision, the floor's captions, what is missing."""
    blocks = [_score_lines(result), _decision_lines(result), [*_floor_lines(result), *missing_lines(result)]]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _score_lines(result: dict) -> list[str]:
    found = {
        f"{part} {column}": scores
        for part in PARTS
        for column in ROWS
        if (scores := (result[column] or {}).get(part))
    }
    extra = [name for name in SPICE_TITLES if any(scores.get(name) for scores in found.values())]
    rows = [["", *TITLES, *(SPICE_TITLES[name] for name in extra)]]
    for name, scores in found.items():
        values = [_value(scores[metric]) for metric in (*METRICS, "s_m")]
        more = [_value(scores.get(metric)) for metric in extra]
        rows.append([name, str(scores["pairs"]), *values, _range(scores["s_m"]), *more])
    return aligned(rows)


def _decision_lines(result: dict) -> list[str]:
    rows = [["change told rightly, %", *(title for part in PARTS for title in (part, RANGE))]]
    for name, accuracy in result["decision"].items():
        rows.append([f"by the {name}"])
        for part in PARTS:
            rows[-1] += [_value(accuracy[part]), _range(accuracy[part])]
    return aligned(rows)


def _floor_lines(result: dict) -> list[str]:
    return [
        f'floor of {part}: "{floor["caption"]}"' for part, floor in (result["floor"] or {}).items() if floor
    ]


def missing_lines(result: dict) -> list[str]:
    """Each reason once, with the places that it holds for."""
    places: dict[str, list[str]] = {}
    for column in ROWS:
        if column in result["reasons"]:
            places.setdefault(result["reasons"][column], []).append(column)
        for part, scores in (result[column] or {}).items():
            for metric, reason in scores["reasons"].items() if scores else ():
                places.setdefault(f"no {metric}: {reason}", []).append(f"{part} {column}")
    return [f"{reason} ({', '.join(where)})" for reason, where in places.items()]


def _value(interval: dict | None) -> str:
    return _number(interval["value"]) if interval else "-"


def _range(interval: dict | None) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}" if interval else "-"


def _number(score: float) -> str:
    return f"{round(score, 1) + 0:.1f}"  # + 0: no minus before a zero


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    first, *others = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        lines.append("  ".join([name.ljust(first), *padded]))
    return lines
