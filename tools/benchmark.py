"""Time evaluation, training and preparation, compared with lower limits and with the authors' procedure.

    python tools/benchmark.py --config configs/second_cc_authors.yaml --train.batch_size 4
    python tools/benchmark.py --checkpoint runs/second_cc/best.pt --split test --pairs 300 --parts evaluation
    python tools/benchmark.py --config configs/second_cc_authors.yaml --parts training --train.batch_size 30

Parts: evaluation (reading, encoding, beam search), a training step, preparation, loading (one data worker,
plain and with data.augment), caption (one caption from a cold start). Limits: the trunks alone (both, all
four views, in the same batches, format and precision); decoding the PNG files on all cores; importing torch
and reading the checkpoint. The authors' procedure (tools/studies/authors_procedure.py) is called `released`
in the results; on a GPU it is also timed in TF32. Prints tables and writes a JSON file.

Without --checkpoint the weights are random, and the decoder is trained to end captions after eight words.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import imageio.v3 as iio
import numpy as np
import torch
from jsonargparse.typing import PositiveInt

from configs.command_line import CommandLine
from data.atomic_write import check_writable, write_text
from data.dataset import ChangeCaptions, make_loader
from data.errors import UserError
from data.images import read_rgb
from data.palette import MapClasses
from data.perturbations import PERTURBATIONS, SEVERITIES
from data.perturbations.apply import perturb
from data.sampler import Draw, StepSampler
from data.settings import FLIPS, DataConfig
from models import model_class
from models.mmodalcc import MModalCC
from tools.engine.checkpoint import read_over_checkpoint
from tools.engine.device import pick_device
from tools.engine.training_data import open_samples
from tools.make_demo_dataset import write_dataset
from tools.studies.benchmark_model import Result, evaluation, training
from tools.studies.benchmark_subject import Subject, make_subject
from tools.studies.stopwatch import Work, format_rows, machine, time_side_by_side

PREPARED_PAIRS = 200
LOADED_PAIRS, LOADED_BATCH, LOADED_CAPTIONS = 100, 28, 1400  # captions: at least this many are read
PERTURBED_PAIRS = 8


def main(argv: list[str] | None = None) -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--config", action="config", help="a YAML file, see configs/")
    parser.add_argument("--checkpoint", type=Path | None, help="best.pt of a run; default: random weights")
    parser.add_argument("--split", choices=("train", "val", "test"), help="default: random pairs")
    parser.add_argument("--pairs", type=PositiveInt, default=16, help="number of pairs in evaluation")
    parser.add_argument("--repeats", type=PositiveInt, default=3, help="runs whose median is reported")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"))
    config, options, content = read_over_checkpoint(parser, argv)

    check_writable(options.output, "--output")
    check_comparable(config.model.name, options.parts)
    hardware = machine(pick_device(config.decode.device))
    print("\n".join(f"{name}: {value}" for name, value in hardware.items()))
    report = {"machine": hardware, "config": config.to_dict(), "repeats": options.repeats, "parts": {}}
    with tempfile.TemporaryDirectory() as scratch:
        subject = make_subject(content, config, options, Path(scratch))
        for part in options.parts:
            unit, measure = PARTS[part]
            rows, others = measure(subject, options.repeats)
            lines = [f"{name}: {value:.3f}" for name, value in others.items()]
            print("", format_rows(part, unit, rows), *lines, sep="\n")
            report["parts"][part] = {"unit": unit, "rows": [asdict(row) for row in rows], "found": others}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.output, json.dumps(report, indent=1))
    print(f"\nwrote {options.output}")


def check_comparable(model: str, parts: Sequence[str]) -> None:
    """UserError if a part compares MModalCC with the authors' procedure and the model is another one."""
    others = [part for part in PARTS if part not in COMPARED]
    if COMPARED.intersection(parts) and not issubclass(model_class(model), MModalCC):
        raise UserError(
            f"--parts {' and '.join(sorted(COMPARED))} compare MModalCC with the authors' procedure, not "
            f"{model}: give --parts {' '.join(others)}"
        )


def preparation(subject: Subject, repeats: int) -> Result:
    """Time tools/create_input_files.py on a demo dataset."""
    script, _ = demo_preparation(subject.scratch / "preparation", PREPARED_PAIRS)
    files = sorted((subject.scratch / "preparation").rglob("*.png"))

    def decode_alone() -> None:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            sum(pool.map(decode_file, files, chunksize=16))

    limit = "decoding the PNG files"
    works = {
        limit: Work(decode_alone, PREPARED_PAIRS, elsewhere=True),
        script[0].name: Work(
            partial(run_python, *script, "--force"), PREPARED_PAIRS, limit=limit, elsewhere=True
        ),
    }
    return time_side_by_side(works, repeats, torch.device("cpu"))[0], {}


def demo_preparation(folder: Path, pairs: int) -> tuple[tuple[str | Path, ...], Path]:
    """Write a demo dataset in a folder; returns the command that prepares it, and the output folder."""
    dataset, output = folder / "dataset", folder / "input"
    write_dataset(dataset, pairs, seed=1, workers=os.cpu_count())
    script = ROOT / "tools" / "create_input_files.py"
    return (script, "--dataset_dir", dataset, "--output_dir", output), output


def decode_file(path: Path) -> int:
    return read_rgb(path).size


def loading(subject: Subject, repeats: int) -> Result:
    """Time one data worker, including its start, in batches of 28 captions of 256 x 256 pairs.

    Samples are plain, turned, or augmented by all of data.augment. Then each perturbation is timed at all
    severities. Also measures pairs per CPU second of the worker, which other programs slow down less.
    """
    script, output = demo_preparation(subject.scratch / "loading", LOADED_PAIRS)
    run_python(*script, "--min_word_freq", "0")
    works, computed = {}, {}
    for name, augment in (
        ("plain", []),
        ("turned", [FLIPS]),
        ("all of data.augment", [FLIPS, *PERTURBATIONS]),
    ):
        data = DataConfig(dir=str(output), augment=augment, workers=1)
        samples = open_samples("train", replace(subject.config, data=data))
        sampler, steps = StepSampler(len(samples), LOADED_BATCH, seed=1), []
        for epoch in range(math.ceil(LOADED_CAPTIONS / len(samples))):
            sampler.begin(epoch)
            steps += sampler
        computed[name] = []
        read = partial(read_all, samples, data, steps, computed[name])
        works[f"one worker, {name}"] = Work(read, sum(map(len, steps)), elsewhere=True)
    views = [samples.reader.views(row) for row in samples.rows[:PERTURBED_PAIRS]]
    classes = samples.augment.classes
    for name in PERTURBATIONS:
        works[name] = Work(partial(perturb_all, views, name, classes), len(views) * len(SEVERITIES))
    rows, _ = time_side_by_side(works, repeats, torch.device("cpu"))
    return rows, {
        f"pairs for each second that one worker computes, {name}": statistics.median(rates)
        for name, rates in computed.items()
    }


def read_all(
    samples: ChangeCaptions, data: DataConfig, steps: list[list[Draw]], computed: list[float]
) -> None:
    """Start a worker and read all batches; appends pairs per CPU second of the worker to `computed`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in make_loader(samples, data, batch_sampler=steps):
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # the worker has ended with its loader
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    computed.append(sum(map(len, steps)) / seconds)


def perturb_all(views: list[np.ndarray], name: str, classes: MapClasses) -> None:
    for seed, pair_views in enumerate(views):
        for severity in SEVERITIES:
            perturb(pair_views, name, severity, seed=seed, classes=classes)


def cold_start(subject: Subject, repeats: int) -> Result:
    """Time caption.py on one pair."""
    files = [subject.scratch / f"view_{number}.png" for number in range(4)]
    for path, view in zip(files, subject.samples[0]["views"], strict=True):
        iio.imwrite(path, view.permute(1, 2, 0).numpy())
    read = "import sys, torch; torch.load(sys.argv[1], map_location='cpu', weights_only=True)"
    script = (ROOT / "caption.py", *files, "--checkpoint", subject.checkpoint)
    limit = "importing torch, reading the checkpoint"
    works = {
        limit: Work(partial(run_python, "-c", read, subject.checkpoint), 1, elsewhere=True),
        script[0].name: Work(partial(run_python, *script), 1, limit=limit, elsewhere=True),
    }
    rows, _ = time_side_by_side(works, repeats, torch.device("cpu"))
    return rows, {"seconds beyond that": rows[1].seconds - rows[0].seconds}


def run_python(*arguments: str | Path) -> None:
    """Run a Python command. CalledProcessError if it fails."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)


PARTS = {
    "evaluation": ("pair", evaluation),
    "training": ("caption", training),
    "preparation": ("pair", preparation),
    "loading": ("pair", loading),
    "caption": ("caption", cold_start),
}
COMPARED = {"evaluation", "training"}  # parts with the authors' procedure beside ours


if __name__ == "__main__":
    cli.run(main)
