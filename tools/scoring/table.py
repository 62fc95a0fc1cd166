"""The scores as plain text, as eval.py prints them."""

from collections.abc import Sequence

from tabulate import tabulate

from tools.scoring.bootstrap import PERCENT
from tools.scoring.metrics import AVERAGED, METRIC_TITLES, OPTIONAL_TITLES
from tools.scoring.results import PARTS, CaptionScores, Interval, Rates

ROWS = ("ours", "floor", "floor_oracle", "margin", "released")
RANGE = f"{PERCENT} %"
TITLES = ("pairs", *METRIC_TITLES.values(), RANGE)
FACT_COLUMNS = {  # short titles, so that a line has at most 110 characters
    "fact_f1": "F1",
    "fact_f05": "F0.5",
    "fact_precision": "prec.",
    "fact_recall": "rec.",
    "fact_contradiction": "contradict",
    "fact_none": "no fact",
    "fact_number": "number",
    "fact_place": "place",
    "own_pair": "own pair",
}
CHANGE_TITLES = {
    "auroc": "AUROC",
    "brier": "Brier score",
    "brier_of_rate": "Brier score of the share of changed pairs",
}
HUMAN_ROWS = ("human", "ours", "floor")
HUMAN_COLUMNS = {
    **{name: METRIC_TITLES[name] for name in (*AVERAGED, "s_m")},
    "fact_f1": "fact F1",
    "fact_f05": "F0.5",
    "own_pair": "own pair",
}
FACT_REMARK = (
    "contradict, no fact, number, place (wrong ones): % of the captions, lower is better; docs/metrics.md"
)
HUMAN_REMARK = "human: each person's caption; all three rows are scored against one reference less"


def format_table(result: CaptionScores) -> str:
    """Scores of words and of facts, persons beside the model, change decision, and remarks.

    The remarks give the captions of the floors and the reasons for missing scores.
    """
    notes = [*_floor_lines(result), *missing_lines(result), *_interval_lines(result)]
    tables = [_score_table(result), _fact_table(result), _human_table(result), _map_table(result)]
    tables.append(_change_tables(result))
    return "\n\n".join([*filter(None, tables), _decision_table(result), "\n".join(notes)])


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


def _fact_table(result: CaptionScores) -> str:
    """A row for each part and column with fact scores; "" without them."""
    rows = [["facts", "F1", RANGE, *list(FACT_COLUMNS.values())[1:]]]
    for part in PARTS:
        for column in ROWS:
            scores = (result.get(column) or {}).get(part) or {}
            values = [_value(scores.get(metric)) for metric in FACT_COLUMNS]
            if any(scores.get(metric) for metric in FACT_COLUMNS):
                rows.append([f"{part} {column}", values[0], _range(scores.get("fact_f1")), *values[1:]])
    return f"{aligned(rows)}\n{FACT_REMARK}" if len(rows) > 1 else ""


def _human_table(result: CaptionScores) -> str:
    """A row for each part and column of the comparison with persons; "" without one."""
    rows = [["beside persons", "pairs", *HUMAN_COLUMNS.values()]]
    rows[0].insert(rows[0].index(METRIC_TITLES["s_m"]) + 1, RANGE)
    for part, compared in (result.get("human") or {}).items():
        columns = compared["columns"] if compared else {}
        for column in HUMAN_ROWS:
            if scores := columns.get(column):
                row = [f"{part} {column}", str(compared["pairs"])]
                for metric in HUMAN_COLUMNS:
                    row.append(_value(scores.get(metric)))
                    if metric == "s_m":
                        row.append(_range(scores.get(metric)))
                rows.append(row)
    return f"{aligned(rows)}\n{HUMAN_REMARK}" if len(rows) > 1 else ""


def _map_table(result: CaptionScores) -> str:
    """A row for each column whose captions were checked against the true maps; "" without one."""
    rows = [["facts against the true maps, %", "precision", "recall of changed area", "not checked"]]
    for part, columns in (result.get("maps") or {}).items():
        for column, scores in columns.items():
            shares = [_plain(scores["precision"]), _plain(scores["recall"])]
            rows.append([f"{part} {column}", *shares, str(scores["unchecked"])])
    return aligned(rows) if len(rows) > 1 else ""


def _change_tables(result: CaptionScores) -> str:
    """AUROC and Brier score of the probability of a change, and the reliability table; "" without them."""
    if not (scores := result.get("change")):
        return ""
    kind = "calibrated" if scores["calibrated"] else "not calibrated"
    rows = [[f"probability of a change ({kind})", "value", RANGE]]
    for name, title in CHANGE_TITLES.items():
        cells = ["-", "-"]
        if score := scores[name]:
            cells = [f"{score['value']:.3f}", f"{score['low']:.3f} to {score['high']:.3f}"]
        rows.append([title, *cells])
    bins = [["its reliability", "pairs", "mean, %", "changed, %", RANGE]]
    for each in scores["reliability"]:
        name, share = f"{each['low']:.1f} to {each['high']:.1f}", each["changed"]
        bins.append([name, str(each["pairs"]), _number(100 * each["mean"]), _value(share), _range(share)])
    return f"{aligned(rows)}\n\n{aligned(bins)}"


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
    for column in (*ROWS, "facts", "human", "maps"):
        if column in result["reasons"]:
            columns_of.setdefault(result["reasons"][column], []).append(column)
    for column in ROWS:
        parts_of: dict[str, list[str]] = {}
        parts = {part: scores for part, scores in (result.get(column) or {}).items() if scores}
        for part, scores in parts.items():
            metrics_of: dict[str, list[str]] = {}
            for metric, reason in scores["reasons"].items():
                metrics_of.setdefault(reason, []).append(metric)
            for reason, metrics in metrics_of.items():
                parts_of.setdefault(f"no {', '.join(metrics)}: {reason}", []).append(f"{part} {column}")
        for line, names in parts_of.items():
            columns_of.setdefault(line, []).extend([column] if len(names) == len(parts) else names)
    return [f"{reason} ({', '.join(names)})" for reason, names in columns_of.items()]


def _value(interval: Interval | None) -> str:
    return _number(interval["value"]) if interval else "-"


def _range(interval: Interval | None) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}" if interval else "-"


def _plain(score: float | None) -> str:
    return "-" if score is None else _number(score)


def _number(score: float) -> str:
    return f"{round(score, 1) + 0:.1f}"  # + 0 turns -0.0 into 0.0


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A text table of a header row and others: the first column to the left, the others to the right."""
    sides = ["left"] + ["right"] * (len(rows[0]) - 1)
    return tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)
