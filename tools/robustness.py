"""Measure how perturbed images and maps change a model's captions and its decision whether anything changed.

python tools/robustness.py --checkpoint runs/second_cc/best.pt
python tools/robustness.py --checkpoint runs/plain/best.pt runs/augmented/best.pt --severities 1 3 5
python tools/robustness.py --checkpoint FILE --perturbations haze registration --decode.beam_size 1
python tools/robustness.py --checkpoint FILE --detector runs/change_detector/best.pt      without given maps

Each perturbation of data/perturbations is applied to every pair of the split at every severity; the random
draw is fixed per pair and shared by all severities. Prints for each checkpoint the false-change rate (the
percentage of unchanged pairs whose caption describes a change), the missed-change rate (the percentage of
changed pairs whose caption describes none), the accuracy of this decision, and S*m. Rates count only the n
pairs that the perturbation altered (map noise does not alter void maps). For models trained with
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
    """A tested checkpoint.

    config: its settings with those of the command line. pairs: by split. maps: "given", "void" or "detected".
    """

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
    perturbations = dict.fromkeys(options.perturbations)
    cells = [CLEAN, *(Cell(name, severity) for name, severity in product(perturbations, severities))]
    subjects = [open_subject(path, argv) for path in options.checkpoint]  # all first: errors show at once
    folder = "robustness" if subjects[0].maps == "given" else f"robustness_{subjects[0].maps}_maps"
    output = options.output or options.checkpoint[0].parent / folder
    check_writable(output, "--output", folder=True)
    truth = common_truth(subjects)
    runs: list[dict[str, Any]] = []
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
            scores = score_cells(captions, altered, truth, subject.no_change, meteor)
            first = first or scores
            runs.append(describe_run(subject, label, scores, first))
            try:
                write(output, options, truth, runs)
            finally:  # print even if the disk is full
                print("\n\n".join([f"{label} ({subject.path})", *tables(runs[-1])]), end="\n\n", flush=True)
    if len(runs) > 1:
        print("\n\n".join(comparison(runs)), end="\n\n")
    unchanged = int((~truth.changed).sum())
    print(f"pairs: {len(truth.changed)}, unchanged: {unchanged}; robustness.json, robustness.png in {output}")


def describe_run(
    subject: Subject, label: str, scores: dict[Cell, Samples], first: dict[Cell, Samples]
) -> dict[str, Any]:
    """An entry of "runs" in robustness.json; all but the first checkpoint have a difference to the first."""
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


def labels(subjects: Sequence[Subject]) -> list[str]:
    """The names of the run folders, or the full paths if names repeat, with the kind of maps if not given."""
    names = [subject.path.resolve().parent.name for subject in subjects]
    if len(set(names)) < len(names):
        names = [str(subject.path) for subject in subjects]
    for index, subject in enumerate(subjects):
        if subject.maps != "given":
            names[index] += f", {subject.maps} maps"
    return names


def open_subject(path: Path, argv: list[str] | None) -> Subject:
    """Load a checkpoint's model, the pairs to caption, and the detector, if any."""
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
        read_maps = "void" if detector else maps  # the detector's maps are predicted later
        pairs[split] = ChangeCaptions(reader, rows=rows, captions="none", maps=read_maps)
    no_change = sentences_in_use(config.data.no_change, content, reader.no_change)
    return Subject(path, model.to(device), vocabulary, config, pairs, maps, detector, no_change, digest)


def common_truth(subjects: Sequence[Subject]) -> Truth:
    """The ground truth of the pairs, which must be the same for all subjects.

    Raises UserError if the pairs differ, or if there are no changed or no unchanged ones.
    """
    truths = [truth_of(subject.pairs.values()) for subject in subjects]
    for subject, truth in zip(subjects, truths, strict=True):
        if truth.references != truths[0].references:
            raise UserError(
                f"checkpoints must be compared on the same pairs, {subject.path} has others than "
                f"{subjects[0].path}: give one --data.dir"
            )
    changed = truths[0].changed
    if changed.all() or not changed.any():
        raise UserError(
            f"changed and unchanged pairs are needed, got {changed.sum()} changed of {len(changed)}: "
            "give another --split"
        )
    return truths[0]


def truth_of(splits: Iterable[ChangeCaptions]) -> Truth:
    """The references, change flags and sources of all pairs."""
    rows = [(pairs.reader, row) for pairs in splits for row in pairs.rows]
    return Truth(
        references=[tuple(reader.references[row]) for reader, row in rows],
        changed=np.array([bool(reader.changed[row]) for reader, row in rows]),
        sources=[reader.sources[row] for reader, row in rows],
    )


@torch.inference_mode()
def caption_cells(
    subject: Subject, cells: Sequence[Cell], seed: int, meteor: Meteor
) -> Iterator[tuple[Cell, list[str], list[bool]]]:
    """Caption a batch of pairs in every cell, the clean cell first, then the next batch of pairs.

    Yields the cell, the captions, and which pairs its perturbation altered (all for the clean cell). meteor:
    scores captions while the next ones are decoded.
    """
    model, vocabulary, config = subject.model, subject.vocabulary, subject.config
    for split, pairs in subject.pairs.items():
        batches = show_cells(
            pairs,
            cells,
            split=split,
            seed=seed,
            config=config,
            device=model.device,
            detector=subject.detector,
        )
        for cell, rows, views, differs in batches:
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
