"""Train and test one configuration with several seeds; print each score's mean and standard deviation.

python tools/run_seeds.py --config configs/second_cc.yaml --seeds 1 2 3
python tools/run_seeds.py --config configs/demo.yaml --seeds 1 2 3 --name all -- --train.captions_per_step all

What stands behind `--` goes to train.py. Seed 2 runs in runs/<name>_seed2 (name: the config's); seeds that
were tested already are not run again, and those that were cut off go on where they were.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import command
from tools.metrics import METRICS


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--name", help="of the runs; default: the config's")
    parser.add_argument("settings", nargs="*", help="settings for train.py, behind --")
    options = parser.parse_args(argv)
    if len(set(options.seeds)) < len(options.seeds):
        raise ValueError(f"--seeds takes each seed once, got {options.seeds}")
    results = [run_seed(options, seed) for seed in options.seeds]
    print(table(options.seeds, results))


def run_seed(options: argparse.Namespace, seed: int) -> dict:
    """One seed's scores.json, trained and tested if it is not there."""
    run = Path("runs") / f"{options.name or options.config.stem}_seed{seed}"
    scores = run / "test" / "scores.json"
    if not scores.exists():
        train = [
            "--config",
            options.config,
            "--run_dir",
            run,
            "--train.seed",
            seed,
            "--resume",
            *options.settings,
        ]
        call("train.py", *train)
        call("eval.py", "--checkpoint", run / "best.pt")
    return json.loads(scores.read_text())


def call(script: str, *arguments: object) -> None:
    """Run one of our scripts; it has said what is wrong where it fails."""
    done = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)])
    if done.returncode:
        raise ValueError(
            f"{script} ended with exit code {done.returncode}: see above; the same command goes on"
        )


def table(seeds: list[int], results: list[dict]) -> str:
    """A row for each metric of all test pairs: every seed, mean, standard deviation, and the floor."""
    rows = [["", *(f"seed {seed}" for seed in seeds), "mean", "std", "floor"]]
    for metric in (*METRICS, "s_m"):
        cells = [result["ours"]["all"][metric] for result in results]
        if None in cells:
            continue
        values = [cell["value"] for cell in cells]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        floor = results[0]["floor"]["all"][metric]["value"]
        rows.append([metric, *(f"{v:.1f}" for v in (*values, statistics.mean(values), spread, floor))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


if __name__ == "__main__":
    command.run(main)
