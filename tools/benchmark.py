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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import imageio.v3 as iio
import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from configs.command_line import CommandLine
from data.atomic_write import check_writable, write_text
from data.dataset import Batch, ChangeCaptions, make_loader, views_of
from data.errors import UserError
from data.images import read_rgb
from data.palette import MapClasses
from data.perturbations import PERTURBATIONS, SEVERITIES
from data.perturbations.apply import perturb
from data.sampler import Draw, StepSampler
from data.settings import FLIPS, DataConfig
from models import model_class
from models.beam_search import Hypothesis
from models.fuse_batchnorm import fold_batchnorm
from models.mmodalcc import MModalCC
from models.precision import autocast, usable_precision
from tools.engine.captioning import predict
from tools.engine.captioning_task import CaptionLoss
from tools.engine.checkpoint import read_over_checkpoint
from tools.engine.device import pick_device
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_data import open_samples
from tools.engine.training_steps import Progress, TrainingSteps
from tools.make_demo_dataset import write_dataset
from tools.studies.authors_procedure import (
    authors_captions,
    authors_copy,
    authors_optimiser,
    authors_step,
)
from tools.studies.benchmark_subject import Subject, make_subject
from tools.studies.stopwatch import Row, Work, count_operations, format_rows, machine, time_side_by_side

PRECISIONS = ("float32", "tf32", "bf16")
CAPTIONS_PER_PAIR, PREPARED_PAIRS = 5, 200
LOADED_PAIRS, LOADED_BATCH, LOADED_CAPTIONS = 100, 28, 1400  # captions: at least this many are read
PERTURBED_PAIRS = 8

Result = tuple[list[Row], dict[str, float]]  # the rows of a part, and its other measurements


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
    """UserError where a part compares MModalCC with the authors' procedure and the model is another one."""
    others = [part for part in PARTS if part not in COMPARED]
    if COMPARED.intersection(parts) and not issubclass(model_class(model), MModalCC):
        raise UserError(
            f"--parts {' and '.join(sorted(COMPARED))} compare MModalCC with the authors' procedure, not "
            f"{model}: give --parts {' '.join(others)}"
        )


def evaluation(subject: Subject, repeats: int) -> Result:
    """Time captioning of the samples: reading, encoding, beam search."""
    model, config, vocabulary = deepcopy(subject.model), subject.config, subject.vocabulary
    fold_batchnorm(model)
    device, count = model.device, len(subject.samples)
    loader = make_loader(subject.samples, config.data, batch_size=config.decode.batch_size)
    batches = [views_of(batch, device) for batch in loader]
    plain = authors_copy(subject.model)

    def authors(precision: str) -> list[Hypothesis]:
        special = {"start": vocabulary.start, "end": vocabulary.end, "beam_size": config.decode.beam_size}
        pairs = (subject.samples[i]["views"].to(device) for i in range(count))
        return [authors_captions(plain, views, **special, precision=precision)[0] for views in pairs]

    works = authors_works(authors, count, device)
    for precision in precisions(device):
        settings = replace(config, decode=replace(config.decode, precision=precision))
        ours = partial(predict, model, subject.samples, vocabulary, settings, Processes())
        trunks = partial(encode_alone, model, batches, precision)
        works[f"trunks alone, {precision}"] = Work(trunks, count, precision)
        works[precision] = Work(
            ours, count, precision, counterpart(precision, works), f"trunks alone, {precision}"
        )
    rows, captions = time_side_by_side(works, repeats, device)
    expected = captions["released"]
    others = {"words in a caption": sum(len(caption.tokens) for caption in expected) / count}
    for precision in precisions(device):
        answers = list(zip(captions[precision], expected, strict=True))
        same = sum(same_answer(ours, theirs) for ours, theirs in answers)
        same_words = sum(ours.tokens == theirs.tokens for ours, theirs in answers)
        others[f"share of captions that equal the released ones, {precision}"] = same / count
        others[f"captions among them with other words that are as likely to 1e-5, {precision}"] = (
            same - same_words
        )
    return rows, others


def precisions(device: torch.device) -> list[str]:
    """The PRECISIONS that the device supports in hardware."""
    return [precision for precision in PRECISIONS if usable_precision(precision, device) == precision]


def authors_works(call: Callable[[str], Any], units: int, device: torch.device) -> dict[str, Work]:
    """The authors' procedure in float32, and on GPUs also in TF32, the default of the authors' torch."""
    works = {"released": Work(partial(call, "float32"), units)}
    if "tf32" in precisions(device):
        works["released, tf32"] = Work(partial(call, "tf32"), units, "tf32")
    return works


def counterpart(precision: str, works: dict[str, Work]) -> str:
    """The authors' work to compare ours with: the fastest whose precision is at least as high."""
    tf32 = "released, tf32"
    return tf32 if precision != "float32" and tf32 in works else "released"


@torch.inference_mode()
def encode_alone(model: MModalCC, batches: list[Tensor], precision: str) -> None:
    """Both trunks on all four views, including void maps."""
    with autocast(model.device, precision):
        for views in batches:
            images = model.normalised(views)
            for encoder, dates in model.encoders():
                encoder.trunk(images[:, dates].flatten(0, 1).contiguous(memory_format=torch.channels_last))


def same_answer(ours: Hypothesis, expected: Hypothesis) -> bool:
    """Whether the words are the same, or equally likely up to 1e-5."""
    return ours.tokens == expected.tokens or abs(ours.log_prob - expected.log_prob) < 1e-5


def training(subject: Subject, repeats: int) -> Result:
    """Time a training step on random pairs, per caption: one caption per pair, or all captions per pair."""
    config, pad = subject.config.train, subject.vocabulary.pad
    device, captions = pick_device(config.device), config.batch_size
    single = subject.random_batch(captions, 1, device)
    every = subject.random_batch(max(1, captions // CAPTIONS_PER_PAIR), CAPTIONS_PER_PAIR, device)
    plain, ours = (copy.to(device).train() for copy in (authors_copy(subject.model), deepcopy(subject.model)))
    plain_adam, adam = authors_optimiser(plain, config.learning_rate), make_optimiser(ours, config)

    def authors(precision: str) -> None:
        authors_step(
            plain,
            single["views"],
            single["tokens"][:, 0],
            plain_adam,
            pad=pad,
            clip=config.clip_value,
            precision=precision,
        )

    def step(batch: Batch, precision: str) -> None:
        loss = CaptionLoss(pad, precision)
        TrainingSteps(ours, loss, adam, config, Progress(), Processes()).take_and_wait(batch)

    works = authors_works(authors, captions, device)
    for precision in precisions(device):
        trunks = f"trunks alone, {precision}"
        works[trunks] = Work(partial(trunk_step, ours, single["views"], precision), captions, precision)
        theirs = counterpart(precision, works)
        works[precision] = Work(partial(step, single, precision), captions, precision, theirs, trunks)
        works[f"all captions of a pair, {precision}"] = Work(
            partial(step, every, precision), every["tokens"].shape[:2].numel(), precision, theirs
        )
    rows, _ = time_side_by_side(works, repeats, device)
    seconds = {row.name: row.seconds for row in rows}
    others = {f"seconds of a released step of {captions}": seconds["released"] * captions}
    operations = count_operations(partial(step, single, "float32"))
    others["GFLOP of a step for a caption of a pair without plain views"] = operations / captions / 1e9
    for precision in precisions(device):
        share = seconds[f"all captions of a pair, {precision}"] / seconds[precision]
        others[f"epoch with captions_per_step all, share of one's, {precision}"] = share
    return rows, others


def trunk_step(model: MModalCC, views: Tensor, precision: str) -> None:
    """The forward pass of both trunks, and the backward pass of their trainable layers."""
    with autocast(views.device, precision):
        features = model.features(views)
    if features.requires_grad:
        features.float().mean().backward()
    model.zero_grad(set_to_none=True)


def preparation(subject: Subject, repeats: int) -> Result:
    """Time tools/create_input_files.py on a demo dataset."""
    dataset, output, cores = subject.scratch / "dataset", subject.scratch / "input", os.cpu_count()
    write_dataset(dataset, PREPARED_PAIRS, seed=1, workers=cores)
    files = sorted(dataset.rglob("*.png"))

    def decode_alone() -> None:
        with ProcessPoolExecutor(cores) as pool:
            sum(pool.map(decode_file, files, chunksize=16))

    limit = "decoding the PNG files"
    script = (ROOT / "tools" / "create_input_files.py", "--dataset_dir", dataset, "--output_dir", output)
    works = {
        limit: Work(decode_alone, PREPARED_PAIRS, elsewhere=True),
        script[0].name: Work(
            partial(run_python, *script, "--force"), PREPARED_PAIRS, limit=limit, elsewhere=True
        ),
    }
    return time_side_by_side(works, repeats, torch.device("cpu"))[0], {}


def decode_file(path: Path) -> int:
    return read_rgb(path).size


def loading(subject: Subject, repeats: int) -> Result:
    """Time one data worker, including its start, in batches of 28 captions of 256 x 256 pairs.

    Samples are plain, turned, or augmented by all of data.augment. Then each perturbation is timed at all
    severities. Also measures pairs per CPU second of the worker, which other programs slow down less.
    """
    dataset, output = subject.scratch / "loaded_dataset", subject.scratch / "loaded"
    write_dataset(dataset, LOADED_PAIRS, seed=1, workers=os.cpu_count())
    script = (ROOT / "tools" / "create_input_files.py", "--dataset_dir", dataset, "--output_dir", output)
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
