"""Measure how perturbed images and maps change a model's captions and its decision whether anything changed.

python tools/robustness.py --checkpoint runs/second_cc/best.pt
python tools/robustness.py --checkpoint runs/plain/best.pt runs/augmented/best.pt --severities 1 3 5
python tools/robustness.py --checkpoint FILE --perturbations haze registration --decode.beam_size 1
python tools/robustness.py --checkpoint FILE --detector runs/change_detector/best.pt      without given maps

Every perturbation of data/perturbations is applied to every pair of the split at every severity, drawn for
each pair, the same at all severities. Printed for each checkpoint: the false-change rate (the share of
unchanged pairs whose caption describes a change), the missed-change rate (of changed pairs, those whose
caption describes none), the accuracy of that decision, and S*m. Rates count the pairs that the perturbation
really altered; n is their number (map noise leaves void maps alone). For models trained with data.augment,
rows say whether their perturbation was trained on or held out. Several checkpoints are compared with the
first one by paired tests. --output DIR (default: robustness/, or robustness_detected_maps/ and the like,
beside the first checkpoint) gets robustness.json, with intervals and differences, and robustness.png, after
each checkpoint.

With --detector no given map is used: a change detector finds the maps in the images that the captioning
model sees, perturbed as they are. Map noise alters the maps that it finds in the clean images. Maps found
beforehand (data.maps detected) are those of the clean images, better than those of perturbed ones: refused.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np
import torch
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import check_writable, write_text
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.no_change import sentences_in_use
from data.perturbations import PERTURBATIONS, SEVERITIES
from data.splits import check_size, open_split
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.checkpoint import load_checkpoint, open_detector, restore_model
from tools.engine.device import pick_device
from tools.engine.provenance import seen_in_training, sha256_of
from tools.report.drawing import draw_robustness
from tools.scoring.meteor import Meteor
from tools.studies.perturbation_scores import (
    BOOTSTRAP,
    CLEAN,
    HEADLINES,
    Cell,
    Samples,
    Truth,
    as_intervals,
    comparison,
    differences,
    s_m,
    score_cells,
    tables,
)
from tools.studies.perturbed_pairs import show_cells


class Subject(NamedTuple):
    """A checkpoint that is tested: its settings with those of the cli line, the pairs of each split by
    its name, their maps ("given", "void" or "detected"), what detects them, and the no-change sentences."""

    path: Path
    model: Captioner
    vocabulary: Vocabulary
    config: Config
    pairs: dict[str, ChangeCaptions]
    maps: str
    detector: ChangeDetector | None
    no_change: tuple[str, ...]
    sha256: str


def main(argv: list[str] | None = None) -> None:
    _, options = read_command(argv)
    severities = sorted(set(options.severities))
    cells = [CLEAN, *(Cell(*place) for place in product(dict.fromkeys(options.perturbations), severities))]
    subjects = [open_subject(path, argv) for path in options.checkpoint]  # what is wrong shows at once
    folder = "robustness" + f"_{subjects[0].maps}_maps" * (subjects[0].maps != "given")
    output = options.output or options.checkpoint[0].parent / folder
    check_writable(output, "--output", folder=True)
    truth = common_truth(subjects)
    runs: list[dict[str, Any]] = []
    first: dict[Cell, Samples] = {}
    with Meteor() as meteor:
        s_m([("a", ("a",))], meteor, np.ones(1))  # so does a Java that does not run
        for subject, label in zip(subjects, labels(subjects), strict=True):
            captions = {cell: [] for cell in cells}
            altered = {cell: [] for cell in cells}
            for cell, predicted, differs in caption_cells(subject, cells, options.seed, meteor):
                captions[cell] += predicted
                altered[cell] += differs
            altered = {cell: np.array(flags) for cell, flags in altered.items()}
            scores = score_cells(captions, altered, truth, subject.no_change, meteor)
            first = first or scores
            runs.append(describe_run(subject, label, scores, first))
            try:
                write(output, options, truth, runs)
            finally:  # a disk may be full by now
                print("\n\n".join([f"{label} ({subject.path})", *tables(runs[-1])]), end="\n\n", flush=True)
    if len(runs) > 1:
        print("\n\n".join(comparison(runs)), end="\n\n")
    unchanged = int((~truth.changed).sum())
    print(f"{len(truth.changed)} pairs, {unchanged} unchanged; robustness.json, robustness.png in {output}")


def describe_run(
    subject: Subject, label: str, scores: dict[Cell, Samples], first: dict[Cell, Samples]
) -> dict[str, Any]:
    """An entry of "runs" in robustness.json; later checkpoints have their difference to the first."""
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
    """Options, and settings over those that a checkpoint stored; UserError where --detector and data.maps
    contradict each other."""
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, help="best.pt of run folders")
    parser.add_argument("--detector", type=Path | None, help="a change detector's best.pt finds all maps")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    every = list(PERTURBATIONS)
    parser.add_argument("--perturbations", nargs="+", default=every, choices=every)
    parser.add_argument("--severities", type=int, nargs="+", default=list(SEVERITIES), choices=SEVERITIES)
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the perturbations")
    parser.add_argument("--output", type=Path | None, help="folder for robustness.json and robustness.png")
    config, options = parser.read(argv, stored)
    if config.data.maps == "detected" and not options.detector:
        raise UserError(
            "data.maps detected are maps of clean images, the perturbed ones need their own: "
            "give the detector itself, --detector FILE"
        )
    if config.data.maps == "void" and options.detector:
        raise UserError(
            "--detector and data.maps void exclude each other: leave --detector out, or add "
            "--data.maps detected"
        )
    return config, options


def labels(subjects: Sequence[Subject]) -> list[str]:
    """The names of the run folders, or the whole paths where two are alike; and the maps unless given."""
    names = [subject.path.resolve().parent.name for subject in subjects]
    if len(set(names)) < len(names):
        names = [str(subject.path) for subject in subjects]
    maps = [f", {subject.maps} maps" * (subject.maps != "given") for subject in subjects]
    return [name + own for name, own in zip(names, maps, strict=True)]


def open_subject(path: Path, argv: list[str] | None) -> Subject:
    """A checkpoint's model, the pairs that it is to caption, and the detector of their maps where one is
    named."""
    content = load_checkpoint(path)
    digest = sha256_of(Path(path))
    config, options = read_command(argv, content["config"])
    model, vocabulary = restore_model(content)
    device = pick_device(config.decode.device)
    detector = None
    if options.detector:
        detector = open_detector(options.detector, tuple(content["image_size"]), device)
    maps = "detected" if detector else config.data.maps
    pairs = {}
    for split in options.split:
        reader, rows = open_split(split, config.data)
        check_size(reader, content["image_size"])
        shown = "void" if detector else maps  # until it has found some
        pairs[split] = ChangeCaptions(reader, rows=rows, captions="none", maps=shown)
    no_change = sentences_in_use(config.data.no_change, content, reader.no_change)
    return Subject(path, model.to(device), vocabulary, config, pairs, maps, detector, no_change, digest)


def common_truth(subjects: Sequence[Subject]) -> Truth:
    """What people say of the pairs, which must be the same for all; UserError where none is (un)changed."""
    truths = [what_people_say(subject.pairs.values()) for subject in subjects]
    for subject, truth in zip(subjects, truths, strict=True):
        if truth.references != truths[0].references:
            raise UserError(
                f"checkpoints are compared on the same pairs, {subject.path} has others than "
                f"{subjects[0].path}: give one --data.dir"
            )
    changed = truths[0].changed
    if changed.all() or not changed.any():
        raise UserError(
            f"changed and unchanged pairs are needed, got {changed.sum()} changed of {len(changed)}: "
            "give another --split"
        )
    return truths[0]


def what_people_say(splits: Iterable[ChangeCaptions]) -> Truth:
    places = [(pairs.reader, row) for pairs in splits for row in pairs.rows]
    return Truth(
        references=[tuple(reader.references[row]) for reader, row in places],
        changed=np.array([bool(reader.changed[row]) for reader, row in places]),
        sources=[reader.sources[row] for reader, row in places],
    )


@torch.inference_mode()
def caption_cells(
    subject: Subject, cells: Sequence[Cell], seed: int, meteor: Meteor
) -> Iterator[tuple[Cell, list[str], list[bool]]]:
    """The captions of some pairs in every cell, of which the first is the clean one; then of the next pairs.

    Yields which of the pairs the cell's perturbation altered, too; of the clean cell, all. meteor: begins to
    score captions while the next are decoded.
    """
    model, vocabulary, config = subject.model, subject.vocabulary, subject.config
    for split, pairs in subject.pairs.items():
        shown = show_cells(
            pairs,
            cells,
            split=split,
            seed=seed,
            config=config,
            device=model.device,
            detector=subject.detector,
        )
        for cell, rows, views, differs in shown:
            with autocast(views.device, config.decode.precision):
                if cell == CLEAN:
                    clean = model.features(views)
                features = model.mixed_features(clean, views, differs)
                answers = model.caption(
                    None,
                    features=features,
                    start=vocabulary.start,
                    end=vocabulary.end,
                    beam_size=config.decode.beam_size,
                )
            captions = [vocabulary.decode(ranked[0].tokens) for ranked in answers]
            references = (tuple(pairs.reader.references[row]) for row in rows)
            meteor.submit(zip(captions, references, strict=True))
            yield cell, captions, [True] * len(rows) if cell == CLEAN else differs.any(1).tolist()


def write(output: Path, options: Namespace, truth: Truth, runs: Sequence[dict[str, Any]]) -> None:
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
