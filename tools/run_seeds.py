"""Train and test one configuration with several seeds; print each score's mean and standard deviation.

python tools/run_seeds.py --config configs/second_cc.yaml --seeds 1 2 3
python tools/run_seeds.py --config configs/demo.yaml --seeds 1 2 3 --name all -- --train.captions_per_step all

Settings after `--` are passed to train.py. Seed 2 runs in runs/<name>_seed2 (name: the config's). Tested
seeds are not repeated, interrupted ones are resumed. A run is tested again if its scores belong to another
checkpoint, test set or setting. A run that was trained on other data raises an error.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from configs import Config
from configs.command_line import CommandLine, load
from data.errors import UserError
from data.json_file import read_json, read_json_lines
from tools.engine.provenance import data_fingerprints, describe_evaluation, differences, recorded
from tools.engine.run_folder import MAY_CHANGE, changed_settings
from tools.scoring.detection import HEADLINES
from tools.scoring.metrics import METRIC_TITLES
from tools.scoring.results import CaptionScores, DetectionScores
from tools.scoring.table import aligned

AnyScores = CaptionScores | DetectionScores

TITLES = {"captioning": METRIC_TITLES, "detection": HEADLINES}  # score -> its title in the table
# Settings that may differ between the tested run and the requested one.
MAY_DIFFER = MAY_CHANGE - {"train.epochs", "train.early_stop"}


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__), argv)
    task = read_settings(options.config, options.settings).model.task
    results = [run_seed(options.config, options.name, seed, options.settings) for seed in options.seeds]
    print(table(options.seeds, results, TITLES[task]))


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options that name runs: --config, --seeds, --name, and the settings after `--`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--name", help="of the runs; default: the config's")
    parser.add_argument("settings", nargs="*", help="settings for train.py, after --")
    return parser


def read_options(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options of `make_parser`; UserError if a seed is given twice."""
    options = parser.parse_args(argv)
    if len(set(options.seeds)) < len(options.seeds):
        raise UserError(f"--seeds takes each seed once, got {options.seeds}")
    options.name = options.name or options.config.stem
    return options


def read_settings(config: Path, settings: Sequence[str]) -> Config:
    """The configuration that train.py would use; UserError names an invalid setting."""
    parser = CommandLine(None)
    parser.add_argument("--config", action="config")
    return parser.read(["--config", str(config), *settings])[0]


def run_seed(config: Path, name: str, seed: int, settings: Sequence[str]) -> AnyScores:
    """The scores.json of a seed; trains and tests it if necessary.

    UserError if the run exists and was trained with other settings or on other data.
    """
    run, settings = Path("runs") / f"{name}_seed{seed}", [*settings, "--train.seed", str(seed)]
    scores, requested = run / "test" / "scores.json", read_settings(config, settings)
    remedy = "delete it and run the same command again"
    if not scores.exists():
        call("train.py", "--config", config, "--run_dir", run, "--resume", *settings)
        score_run(run, requested)
    else:
        if changed := changed_settings(load(run / "config.yaml"), requested, MAY_DIFFER):
            raise UserError(
                f"{run} was made with other settings, {', '.join(changed)}: choose another --name"
            )
        check_training_data(run, requested)
        if other := outdated(read_json(scores, remedy), run, requested):
            print(f"{scores} belongs to {', '.join(other)}: testing anew", file=sys.stderr)
            score_run(run, requested)
    return read_json(scores, remedy)


def score_run(run: Path, config: Config) -> None:
    """Write the run's test/scores.json."""
    data = ("--data.dir", config.data.dir, "--data.no_change", json.dumps(config.data.no_change))
    call("eval.py", "--checkpoint", run / "best.pt", "--output", run / "test", *data)


def check_training_data(run: Path, config: Config) -> None:
    """UserError if the run was trained on other files than those in `data.dir`."""
    path = run / "environment.jsonl"
    lines = read_json_lines(path, f"choose another --name, or delete {run}") if path.is_file() else []
    stored = lines[-1].get("data") if lines else None
    current = data_fingerprints(config.data, ["train", "val"])
    if isinstance(stored, str):  # earlier versions stored the fingerprint of train alone
        stored = {next(iter(current)): stored}
    for name, fingerprint in (stored or {}).items():
        if current.get(name) != fingerprint:
            raise UserError(
                f"{run} was trained on other data than {Path(config.data.dir, name)}: choose another --name"
            )


def outdated(scores: AnyScores, run: Path, config: Config) -> list[str]:
    """How the record of a run's test scores differs from the requested evaluation.

    [] if the scores have no record (earlier versions) or the run has no checkpoint.
    """
    record = recorded(scores, run / "test" / "scores.json")
    if not record or not (run / "best.pt").is_file():
        return []
    return differences(record, describe_evaluation([run / "best.pt"], config, ["test"]))


def call(script: str, *arguments: object) -> None:
    """Run train.py or eval.py, which print their own errors; UserError if it fails."""
    done = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)])
    if done.returncode:
        raise UserError(
            f"{script} ended with exit code {done.returncode}: see above; run the command again to resume"
        )


def all_scores(result: AnyScores, column: str = "ours") -> dict[str, float]:
    """The scores of a column on all test pairs that have a value."""
    if "confusion" in result:  # a change detector's scores are plain numbers
        return {name: result[column][name] for name in HEADLINES}
    scores = (result[column] or {}).get("all") or {}
    return {name: scores[name]["value"] for name in METRIC_TITLES if scores.get(name)}


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample; None for one value."""
    return statistics.stdev(values) if len(values) > 1 else None


def common_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The values of each score that all seeds have."""
    values = {}
    for name in scores[0]:
        if all(name in of_seed for of_seed in scores):
            values[name] = [of_seed[name] for of_seed in scores]
    return values


def table(seeds: list[int], results: list[AnyScores], titles: Mapping[str, str]) -> str:
    """A row for each score that all seeds have: each seed, mean, standard deviation, and the floor."""
    rows = [["", *(f"seed {seed}" for seed in seeds), "mean", "std", "floor"]]
    floor = all_scores(results[0], "floor")
    for name, values in common_scores([all_scores(result) for result in results]).items():
        numbers = (*values, statistics.mean(values), spread(values), floor.get(name))
        rows.append([titles[name], *map(format_score, numbers)])
    return aligned(rows)


def format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    cli.run(main)
