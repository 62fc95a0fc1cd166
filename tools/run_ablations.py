"""Train and test the ablations of configs/ablations.yaml, each with several seeds, and print one table.

python tools/run_ablations.py --config configs/demo.yaml --seeds 1 2 3
python tools/run_ablations.py --config configs/second_cc.yaml --seeds 1 --only full rgb_only maps_only
python tools/run_ablations.py --config configs/demo.yaml --seeds 1 2 3 --name short -- --train.epochs 3

What stands behind `--` goes to train.py. Seed 2 of rgb_only runs in runs/<name>_rgb_only_seed2, that of full
in runs/<name>_seed2 (name: the config's); what was tested already is not run again, and what was cut off goes
on where it was. The table is written to runs/<name>_ablations.json too.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import yaml

import configs
from data.atomic_write import check_writable, write_text
from data.errors import UserError
from tools.run_seeds import all_scores, make_parser, read_options, read_settings, run_seed, spread
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
    for own in settings.values():  # a mistake is found before hours of training
        read_settings(options.config, own)
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
    finally:  # a disk may be full by now
        print(table(report))
    print(f"\nwritten to {output}")


def check_model(config: Path, settings: Sequence[str]) -> None:
    """UserError where the model writes no captions."""
    model = read_settings(config, settings).model
    if model.task != "captioning":
        raise UserError(
            f"the ablations of {ABLATIONS.name} need a captioning model, {config} has model.name "
            f"{model.name}: give another --config, such as configs/second_cc.yaml, or use tools/run_seeds.py"
        )


def read_ablations(only: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Name -> settings by their dotted names; UserError where one of `only` is no ablation."""
    ablations = yaml.safe_load(ABLATIONS.read_text())
    for name in only or ():
        if name not in ablations:
            raise UserError(f"--only takes names of {ABLATIONS.name} ({', '.join(ablations)}), got {name}")
    return {name: ablations[name] for name in only or ablations}


def as_options(settings: dict[str, Any]) -> list[str]:
    """{"model.cmca": False} -> ["--model.cmca", "False"]."""
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def summary(results: Sequence[dict]) -> dict[str, dict[str, Any]]:
    """Each score that every seed has: the seeds' values, their mean and standard deviation."""
    decisions = [result["decision"]["caption"]["all"]["value"] for result in results]
    found = [{**all_scores(r), "decision": right} for r, right in zip(results, decisions, strict=True)]
    values = {name: [own[name] for own in found] for name in found[0] if all(name in own for own in found)}
    return {
        name: {"values": own, "mean": statistics.mean(own), "std": spread(own)}
        for name, own in values.items()
    }


def table(report: dict[str, Any]) -> str:
    """A row for each ablation, the means over its seeds, and the floor's; S*m with its standard deviation."""
    rows = {}
    for name, ablation in report["ablations"].items():
        scores = ablation["scores"]
        rows[name] = {score: found["mean"] for score, found in scores.items()}
        if "s_m" in scores:
            rows[name]["std"] = scores["s_m"]["std"]
    rows["floor"] = report["floor"]
    cells = [[f"{row[c]:.1f}" if row.get(c) is not None else "-" for c in TITLES] for row in rows.values()]
    head = [f"mean of seeds {' '.join(map(str, report['seeds']))}", *TITLES.values()]
    return "\n".join(aligned([head, *([name, *own] for name, own in zip(rows, cells, strict=True))]))


if __name__ == "__main__":
    cli.run(main)
