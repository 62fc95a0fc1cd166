"""The tables of docs/metrics.md quote docs/results/metrics.json, and its claims follow from it."""

from collections.abc import Mapping

from tests.test_results import ROOT, result
from tools.studies.metric_separation import ALL_ERRORS, FACT_SCORES, TITLES, WORD_SCORES

SHOWN = (*WORD_SCORES, "fact_f1", "fact_f05", "own_pair")
SYSTEM_SCORES = (*WORD_SCORES, "s_m", "fact_f1", "fact_f05", "fact_contradiction", "fact_none", "own_pair")
REPORT = result("metrics.json")
ERRORS = REPORT["errors"]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def error_rows(measure: str) -> list[str]:
    return [
        row(kind, str(own["n"]), *(f"{100 * own[measure][score]['value']:.1f}" for score in SHOWN))
        for kind, own in ERRORS.items()
    ]


def best(own: Mapping, scores: tuple[str, ...]) -> tuple[str, Mapping]:
    name = max(scores, key=lambda score: own["auc"][score]["value"])
    return TITLES[name], own["auc"][name]


def span(interval: Mapping) -> str:
    value, low, high = (100 * interval[bound] for bound in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def best_rows() -> list[str]:
    rows = []
    for kind, own in ERRORS.items():
        (word, of_words), (fact, of_facts) = best(own, WORD_SCORES), best(own, FACT_SCORES)
        rows.append(row(kind, word, span(of_words), fact, span(of_facts)))
    return rows


def system_rows() -> list[str]:
    return [
        row(
            name.replace("a person", "human captions"),
            *(f"{own['scores'][score]['value']:.1f}" for score in SYSTEM_SCORES),
        )
        for name, own in REPORT["systems"].items()
    ]


def test_the_tables_are_those_of_the_result_file():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines()
    expected = [*best_rows(), *error_rows("auc"), *error_rows("preferred"), *system_rows()]
    headers = ("| error", "| system", "| score", "|---")
    tables = [line for line in page if line.startswith("|") and not line.startswith(headers)]
    assert [line for line in tables if not line.startswith("| `")] == expected


def test_times_are_those_of_the_result_file():
    page = " ".join((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split())
    seconds = REPORT["seconds"]
    assert (
        f"For {REPORT['captions_timed']:,} captions METEOR took {seconds['meteor']:.1f} s, the fact scores "
        f"{seconds['facts']:.1f} s and the own-pair rank {seconds['own_pair']:.1f} s"
    ) in page
    assert seconds["facts"] + seconds["own_pair"] < seconds["meteor"]


def test_fact_scores_separate_the_errors_that_words_do_not():
    for kind in ("direction reversed", "class exchanged", "invention", "omission", '"no change"'):
        highest = max(ERRORS[kind]["auc"][score]["high"] for score in WORD_SCORES)
        assert best(ERRORS[kind], FACT_SCORES)[1]["low"] > highest, kind
    assert best(ERRORS["direction reversed"], FACT_SCORES)[1]["value"] >= 0.95
    assert best(ERRORS[ALL_ERRORS], FACT_SCORES)[1]["value"] >= 0.85
