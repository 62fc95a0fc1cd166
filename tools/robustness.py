"""Measure how perturbed images and maps change a model's captions and its decision whether anything changed.

python tools/robustness.py --checkpoint runs/second_cc/best.pt
python tools/robustness.py --checkpoint runs/plain/best.pt runs/augmented/best.pt --severities 1 3 5
python tools/robustness.py --checkpoint FILE --perturbations haze registration --decode.beam_size 1
python tools/robustness.py --checkpoint FILE --detector runs/change_detector/best.pt      without given maps

Each perturbation of data/perturbations is applied to every pair of the split at every severity; the random
draw is fixed per pair and shared by all severities. Prints for each checkpoint the false-change rate (the
percentage of unchanged pairs whose caption describes a change), the missed-change rate (the percentage of
changed pairs whose caption describes none), the accuracy of this decision, S*m and fact F1. Rates count only
the n pairs that the perturbation altered (map noise does not alter void maps). For models trained with
data.augment, rows are marked as trained or held out. Several checkpoints are compared with the first one by
paired tests. Writes robustness.json, with intervals and differences, and robustness.png to --output DIR after
each checkpoint (default: robustness/, or for other maps robustness_detected_maps/ or robustness_void_maps/,
beside the first checkpoint).

With --detector, a change detector predicts the maps from the images that the captioning model gets, including
their perturbations; map noise is applied to the maps of the clean images. Maps predicted beforehand
(data.maps detected) are those of clean images and are refused.
"""

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import check_writable, write_text
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.maps.settings import MapSettings
from data.no_change import sentences_in_use
from data.perturbations import PERTURBATIONS, SEVERITIES
from data.splits import check_maps, check_size, open_split
from tools.engine.checkpoint import load_checkpoint, open_detector, restore_model
from tools.engine.device import pick_device
from tools.engine.provenance import seen_in_training, sha256_of
from tools.report.drawing import draw_robustness
from tools.scoring.fact_scores import measurable_facts
from tools.scoring.meteor import Meteor
from tools.studies.perturbation_scores import (
    BOOTSTRAP,
    CLEAN,
    HEADLINES,
    Cell,
    Run,
    Samples,
    Truth,
    as_intervals,
    differences,
    s_m,
    score_cells,
)
from tools.studies.perturbation_tables import comparison, tables
from tools.studies.robustness_subject import Subject, caption_cells, common_truth, labels


def main(argv: list[str] | None = None) -> None:
    _, options = read_command(argv)
    severities = sorted(set(options.severities))
    perturbations = dict.fromkeys(options.perturbations)
    cells = [CLEAN, *(Cell(name, severity) for name, severity in product(perturbations, severities))]
    subjects = [open_subject(path, argv) for path in options.checkpoint]  # errors before any work
    folder = "robustness" if subjects[0].maps == "given" else f"robustness_{subjects[0].maps}_maps"
    output = options.output or options.checkpoint[0].parent / folder
    check_writable(output, "--output", folder=True)
    truth = common_truth(subjects)
    changed = [texts for texts, is_changed in zip(truth.references, truth.changed, strict=True) if is_changed]
    facts, no_facts = measurable_facts(subjects[0].config.data.facts, changed)
    runs: list[Run] = []
    first: dict[Cell, Samples] = {}
    with Meteor() as meteor:
        s_m([("a", ("a",))], meteor, np.ones(1))  # fail now, not after hours, if METEOR's Java cannot start
        for subject, label in zip(subjects, labels(subjects), strict=True):
            captions = {cell: [] for cell in cells}
            altered = {cell: [] for cell in cells}
            for cell, predicted, differs in caption_cells(subject, cells, options.seed, meteor):
                captions[cell] += predicted
                altered[cell] += differs
            altered = {cell: np.array(flags) for cell, flags in altered.items()}
            scores = score_cells(captions, altered, truth, subject.no_change, meteor, facts)
            first = first or scores
            runs.append(describe_run(subject, label, scores, first))
            try:
                write(output, options, truth, runs)
            finally:  # print even if the disk is full
                print("\n\n".join([f"{label} ({subject.path})", *tables(runs[-1])]), end="\n\n", flush=True)
    if len(runs) > 1:
        print("\n\n".join(comparison(runs)), end="\n\n")
    unchanged = int((~truth.changed).sum())
    if no_facts:
        print(no_facts)
    print(f"pairs: {len(truth.changed)}, unchanged: {unchanged}; robustness.json, robustness.png in {output}")


def describe_run(
    subject: Subject, label: str, scores: dict[Cell, Samples], first: dict[Cell, Samples]
) -> Run:
    """An entry of "runs" in robustness.json. All checkpoints except the first have a difference to it."""
    run = {
        "label": label,
        "checkpoint": str(subject.path),
        "sha256": subject.sha256,
        "augment": list(subject.config.data.augment),
        "settings": {"data.maps": subject.maps, "decode.beam_size": subject.config.decode.beam_size},
        **as_intervals(scores),
    }
    return run if scores is first else {**run, "difference": differences(first, scores)}


def read_command(argv: list[str] | None, stored: dict | None = None) -> tuple[Config, Namespace]:
    """Parse the command line over the settings stored in a checkpoint.

    Raises UserError if --detector and data.maps contradict each other.
    """
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, help="best.pt of run folders")
    parser.add_argument(
        "--detector", type=Path | None, help="best.pt of a change detector, which predicts all maps"
    )
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    names = list(PERTURBATIONS)
    parser.add_argument("--perturbations", nargs="+", default=names, choices=names)
    parser.add_argument("--severities", type=int, nargs="+", default=list(SEVERITIES), choices=SEVERITIES)
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the perturbations")
    parser.add_argument("--output", type=Path | None, help="folder for robustness.json and robustness.png")
    config, options = parser.read(argv, stored)
    if config.data.maps == "detected" and not options.detector:
        raise UserError(
            "data.maps detected holds maps of clean images, but perturbed images need new ones: "
            "give the detector with --detector FILE"
        )
    if config.data.maps == "void" and options.detector:
        raise UserError(
            "--detector and data.maps void exclude each other: leave --detector out, or add "
            "--data.maps detected"
        )
    return config, options


def open_subject(path: Path, argv: list[str] | None) -> Subject:
    """Load a checkpoint's model, the pairs to caption, and the detector, if any."""
    content = load_checkpoint(path)
    digest = sha256_of(Path(path))
    config, options = read_command(argv, content["config"])
    model, vocabulary = restore_model(content)
    device = pick_device(config.decode.device)
    detector, trained = None, MapSettings.stored(content)
    if options.detector:
        detector = open_detector(options.detector, tuple(content["image_size"]), trained.palette, device)
    maps = "detected" if detector else config.data.maps
    pairs = {}
    for split in options.split:
        reader, rows = open_split(split, config.data)
        check_size(reader, content["image_size"])
        check_maps(reader, trained, maps, model.views)
        read_maps = "void" if detector else maps  # the detector's maps are predicted later
        pairs[split] = ChangeCaptions(reader, rows=rows, captions="none", maps=read_maps)
    no_change = sentences_in_use(config.data.no_change, content, reader.no_change)
    temperature = content.get("change_temperature")
    return Subject(
        path, model.to(device), vocabulary, config, pairs, maps, detector, no_change, digest, temperature
    )


def write(output: Path, options: Namespace, truth: Truth, runs: Sequence[Run]) -> None:
    """Write robustness.json and robustness.png."""
    content = {
        "split": options.split,
        "seen_in_training": seen_in_training(options.split),
        "pairs": len(truth.changed),
        "unchanged": int((~truth.changed).sum()),
        "sources": len(set(truth.sources)),
        "detector": str(options.detector) if options.detector else None,
        "seed": options.seed,
        "levels": {
            name: {"group": kind.group, "unit": kind.unit, "levels": kind.levels}
            for name, kind in PERTURBATIONS.items()
            if name in options.perturbations
        },
        "bootstrap": BOOTSTRAP,
        "runs": runs,
    }
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "robustness.json", json.dumps(content, indent=1))
    draw_robustness(output / "robustness.png", runs, HEADLINES)


if __name__ == "__main__":
    cli.run(main)
