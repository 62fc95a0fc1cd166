"""Train and test the ablations of configs/ablations.yaml, each with several seeds, and print one table.

python tools/run_ablations.py --config configs/demo.yaml --seeds 1 2 3
python tools/run_ablations.py --config configs/second_cc.yaml --seeds 1 --only full rgb_only maps_only
python tools/run_ablations.py --config configs/demo.yaml --seeds 1 2 3 --name short -- --train.epochs 3

Settings after `--` are passed to train.py. Seed 2 of rgb_only runs in runs/<name>_rgb_only_seed2, that of
full in runs/<name>_seed2 (name: the config's). Tested runs are not repeated, interrupted ones are resumed.
The scores are also written to runs/<name>_ablations.json.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import yaml

import configs
from data.atomic_write import check_writable, write_text
from data.errors import UserError
from tools.run_seeds import (
    AnyScores,
    all_scores,
    common_scores,
    format_score,
    make_parser,
    read_options,
    read_settings,
    run_seed,
    spread,
)
from tools.scoring.table import aligned

ABLATIONS = Path(configs.__file__).parent / "ablations.yaml"
TITLES = {
    "s_m": "S*m",
    "std": "std",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "decision": "change-decision accuracy, %",
}


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"these of {ABLATIONS.name}; default: all")
    options = read_options(parser, argv)
    check_model(options.config, options.settings)
    ablations = read_ablations(options.only)
    settings = {name: [*options.settings, *as_options(changes)] for name, changes in ablations.items()}
    for changed in settings.values():  # report invalid settings before hours of training
        read_settings(options.config, changed)
    output = Path("runs") / f"{options.name}_ablations.json"
    check_writable(output, "--name")
    report = {"config": str(options.config), "settings": options.settings, "seeds": options.seeds}
    report["ablations"] = {}
    for name, changes in ablations.items():
        run = "_".join([options.name, name] if changes else [options.name])
        results = [run_seed(options.config, run, seed, settings[name]) for seed in options.seeds]
        report["ablations"][name] = {"settings": changes, "scores": summary(results)}
        report["floor"] = all_scores(results[0], "floor")
    try:
        write_text(output, json.dumps(report, indent=1))
    finally:  # print the table even if the disk is full
        print(table(report))
    print(f"\nwritten to {output}")


def check_model(config: Path, settings: Sequence[str]) -> None:
    """UserError if the model is not a captioning model."""
    model = read_settings(config, settings).model
    if model.task != "captioning":
        raise UserError(
            f"the ablations of {ABLATIONS.name} need a captioning model, {config} has model.name "
            f"{model.name}: give another --config, such as configs/second_cc.yaml, or use tools/run_seeds.py"
        )


def read_ablations(only: Sequence[str] | None) -> dict[str, dict[str, object]]:
    """Name -> settings by their dotted names; UserError if `only` has an unknown name."""
    ablations = yaml.safe_load(ABLATIONS.read_text())
    for name in only or ():
        if name not in ablations:
            raise UserError(f"--only takes names of {ABLATIONS.name} ({', '.join(ablations)}), got {name}")
    return {name: ablations[name] for name in only or ablations}


def as_options(settings: dict[str, object]) -> list[str]:
    """{"model.cmca": False} -> ["--model.cmca", "False"]."""
    options = []
    for key, value in settings.items():
        options += [f"--{key}", str(value)]
    return options


def summary(results: Sequence[AnyScores]) -> dict[str, dict]:
    """Values, mean and standard deviation of each score that all seeds have."""
    scores = []
    for result in results:
        accuracy = result["decision"]["caption"]["all"]["value"]
        scores.append({**all_scores(result), "decision": accuracy})
    summaries = {}
    for name, values in common_scores(scores).items():
        summaries[name] = {"values": values, "mean": statistics.mean(values), "std": spread(values)}
    return summaries


def table(report: dict) -> str:
    """A row of means for each ablation and for the floor; S*m with its standard deviation."""
    scores_of = {}
    for name, ablation in report["ablations"].items():
        scores = ablation["scores"]
        scores_of[name] = {score: summary["mean"] for score, summary in scores.items()}
        if "s_m" in scores:
            scores_of[name]["std"] = scores["s_m"]["std"]
    scores_of["floor"] = report["floor"]
    rows = [[f"mean of seeds {' '.join(map(str, report['seeds']))}", *TITLES.values()]]
    for name, scores in scores_of.items():
        rows.append([name, *(format_score(scores.get(column)) for column in TITLES)])
    return aligned(rows)


if __name__ == "__main__":
    cli.run(main)
