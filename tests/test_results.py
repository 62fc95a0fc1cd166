"""The tables in README.md and docs/results.md quote the result files in docs/results/."""

import json
import re
from pathlib import Path

import pytest

from data.perturbations import MAPS, PERTURBATIONS
from tools.studies.perturbation_scores import IMAGES_MEAN
from tools.studies.perturbation_tables import trained_on

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
METRICS = ("bleu_4", "meteor", "rouge_l", "cider")
FACTS = ("fact_f1", "own_pair")
FACT_SHARES = ("fact_recall", "fact_precision", "fact_contradiction")
MAPS_MEAN = f"mean of {MAPS}"


def result(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def span(interval: dict) -> str:
    return f"{interval['value']:.1f} [{interval['low']:.1f}, {interval['high']:.1f}]"


def score_row(title: str, scores: dict, decision: dict | None = None) -> str:
    """A row of the table of scores: metrics, S*m, fact F1 and change-decision accuracy with intervals."""
    values = [f"{scores[metric]['value']:.1f}" for metric in METRICS]
    accuracy = f"{span(decision['caption']['all'])} %" if decision else ""
    return f"| {' | '.join([title, *values, span(scores['s_m']), span(scores['fact_f1']), accuracy])} |"


def human_row(title: str, scores: dict) -> str:
    """A row of the comparison with human captions: metrics, S*m, fact F1 and own-pair percentile."""
    values = [f"{scores[metric]['value']:.1f}" for metric in METRICS]
    return f"| {' | '.join([title, *values, *(span(scores[score]) for score in ('s_m', *FACTS))])} |"


def map_row(title: str, scores: dict) -> str:
    """A row of the table of maps: S*m, margin over the floor, fact F1, change-decision accuracy."""
    cells = [span(scores["ours"]["all"]["s_m"]), span(scores["margin"]["all"]["s_m"])]
    cells.append(span(scores["ours"]["all"]["fact_f1"]))
    return f"| {' | '.join([title, *cells, span(scores['decision']['caption']['all']) + ' %'])} |"


def detector_row(title: str, scores: dict) -> str:
    """A row of the table of the change detector, per cent."""
    values = [f"{scores[metric]:.1f}" for metric in ("oa", "miou", "sek", "f_scd")]
    return f"| {' | '.join([title, *values])} |"


def robustness_rows(content: dict) -> list[str]:
    """For each model: clean S*m, then at severity 3 the means over images and over map noise."""
    rows = []
    for run in content["runs"]:
        cells = [span(run["clean"]["s_m"])]
        for mean in (IMAGES_MEAN, MAPS_MEAN):
            at_3 = run["curves"][mean]["3"]
            false = at_3["false_change"]
            cells += [f"{span(false)} % of {false['n']}", span(at_3["s_m"])]
        rows.append(f"| {' | '.join([run['label'], *cells])} |")
    return rows


def group_rows(content: dict) -> list[str]:
    """S*m at severity 3 for each group of perturbations, and whether each model was trained on it."""
    rows = []
    for mean in content["runs"][0]["curves"]:
        if mean.startswith("mean of"):
            cells = []
            for run in content["runs"]:
                value = run["curves"][mean]["3"]["s_m"]["value"]
                cells.append(f"{value:.1f}{trained_on(mean, run['augment'])}")
            rows.append(f"| {' | '.join([mean, *cells])} |")
    return rows


def expected_rows() -> list[str]:
    demo, shuffled = result("demo_test.json"), result("demo_test_shuffled.json")
    rows = [
        score_row("floor", demo["floor"]["all"]),
        score_row("floor_oracle", demo["floor_oracle"]["all"]),
        score_row("model", demo["ours"]["all"], demo["decision"]),
        score_row("model, other pairs' images", shuffled["ours"]["all"], shuffled["decision"]),
    ]
    compared = demo["human"]["changed"]["columns"]
    titles = {"human": "human captions", "ours": "model", "floor": "floor"}
    rows += [human_row(title, compared[column]) for column, title in titles.items()]
    rows.append(map_row("given", demo))
    rows += [map_row(name, result(f"demo_maps_{name}.json")) for name in ("detected", "void")]
    detector = result("demo_detector.json")
    rows += [detector_row("detector", detector["ours"]), detector_row("all maps void", detector["floor"])]
    robustness = result("demo_robustness.json")
    return [*rows, *robustness_rows(robustness), *group_rows(robustness)]


def fine_tuning_rows(content: dict) -> list[str]:
    """For each seed: S*m after training from random weights and from the demo's model."""
    scores = {(run["start"], run["seed"]): span(run["ours"]["all"]["s_m"]) for run in content["runs"]}
    seeds = sorted({seed for _, seed in scores if seed})
    return [f"| {seed} | {scores['random weights', seed]} | {scores['demo model', seed]} |" for seed in seeds]


def test_results_of_training_further_are_quoted_from_their_file():
    content = result("fine_tuning.json")
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    rows = fine_tuning_rows(content)
    assert len(rows) == 3
    assert [line for line in page.splitlines() if re.match(r"\| \d \| \d", line)] == rows
    assert f"scores {span(content['runs'][0]['ours']['all']['s_m'])} there" in page
    words = content["words"]
    known = f"{words['with weights of the demo model']} of their {words['in the data']} words"
    assert f"We replaced {len(content['replaced_words'])} words" in text
    assert f"knows {known}" in text


def test_every_row_of_the_results_is_quoted_from_its_file():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for row in expected_rows():
        assert row in page, f"docs/results.md must hold the row {row}"


def test_the_shares_of_facts_are_quoted_from_their_file():
    demo = result("demo_test.json")
    page = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    changed = {name: f"{demo['ours']['changed'][name]['value']:.1f}" for name in FACT_SHARES}
    recall, precision, contradiction = changed.values()
    assert f"(recall {recall} %)" in page
    assert f"(precision {precision} %; {contradiction} % of its captions contradict" in page
    checked = demo["maps"]["changed"]["ours"]
    assert f"{checked['precision']:.1f} % of its facts about changed pairs are right" in page
    assert f"they explain {checked['recall']:.1f} % of the changed area" in page


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_rows_of_a_table_have_the_same_origin(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    known = set(expected_rows())
    rows = [line for line in page.splitlines() if line.startswith("| ") and re.search(r"\[-?\d", line)]
    assert rows
    assert [row for row in rows if row not in known and "---" not in row] == []


def test_the_table_of_perturbations_has_their_groups_and_levels():
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[:3] for line in page.splitlines() if line.startswith("| `")]
    expected = []
    for name, perturbation in PERTURBATIONS.items():
        levels = [level if isinstance(level, tuple) else (level,) for level in perturbation.levels]
        cell = ", ".join([" / ".join(map("{:g}".format, level)) for level in levels])
        expected.append([f"| `{name}`", perturbation.group, cell])
    assert rows == expected


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("demo_test*.json")))
def test_results_record_their_evaluation(name):
    assert set(result(name)["evaluation"]) >= {"checkpoint", "data", "splits", "settings"}
