"""Caption perturbed pairs: how many changes does a model invent where nothing has changed?

python tools/robustness.py --checkpoint runs/second_cc/best.pt
python tools/robustness.py --checkpoint runs/plain/best.pt runs/augmented/best.pt --severities 1 3 5
python tools/robustness.py --checkpoint FILE --perturbations haze registration --decode.beam_size 1

Every perturbation of data/perturbations strikes every pair of the split at every severity; how is drawn for
each pair, the same at all severities. Printed for each checkpoint: the false-change rate (of the unchanged
pairs, those whose caption tells of a change), the missed-change rate (of the changed pairs, those whose
caption tells of none), the accuracy of that decision, and S*m; at the end the means of several checkpoints
side by side. Detected maps (data.maps) stay those of the clean images. --output DIR (default: robustness/
beside the first checkpoint) gets robustness.json, with bootstrap intervals, and robustness.png, both anew
after each checkpoint.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs import CommandLine, Config
from data.dataset import Batch, ChangeCaptions, check_size, make_loader, open_split
from data.perturbations import PERTURBATIONS, SEVERITIES, perturb
from data.vocabulary import Vocabulary
from models import autocast, pick_device
from models.checkpoint import load_checkpoint, restore_model
from models.mmodalcc import MModalCC
from tools import command
from tools.drawing import draw_robustness
from tools.meteor import Meteor
from tools.robustness_scores import (
    BOOTSTRAP,
    CLEAN,
    HEADLINES,
    Cell,
    Truth,
    as_intervals,
    comparison,
    s_m,
    score_cells,
    tables,
)


class Subject(NamedTuple):
    """A checkpoint that is tested: its settings with those of the command line, the pairs of each split."""

    path: Path
    model: MModalCC
    vocabulary: Vocabulary
    config: Config
    pairs: list[ChangeCaptions]


class PerturbedPairs(Dataset):
    """Pairs as the cells of the table show them; a sample's place is (cell, pair), both as numbers.

    A sample: views (4, 3, H, W) uint8, differs (4,) bool, which of them are not the clean ones, and index ()
    the pair's place in the file.
    """

    def __init__(self, pairs: ChangeCaptions, cells: Sequence[Cell], seed: int) -> None:
        self.pairs, self.cells, self.seed = pairs, cells, seed

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        cell, sample = self.cells[place[0]], self.pairs[place[1]]
        views = clean = sample["views"].numpy()
        if cell != CLEAN:
            views = perturb(clean, cell.name, cell.severity, seed=(self.seed, int(sample["index"])))
        differs = (views != clean).any(axis=(1, 2, 3))
        return {**sample, "views": torch.from_numpy(views), "differs": torch.from_numpy(differs)}


def main(argv: list[str] | None = None) -> None:
    _, options = read_command(argv)
    output = options.output or options.checkpoint[0].parent / "robustness"
    severities = sorted(set(options.severities))
    cells = [CLEAN, *(Cell(*place) for place in product(dict.fromkeys(options.perturbations), severities))]
    subjects = [open_subject(path, argv) for path in options.checkpoint]  # what is wrong shows at once
    truth = common_truth(subjects)
    runs: list[dict[str, Any]] = []
    with Meteor() as meteor:
        s_m([("a", ("a",))], meteor, np.ones(1))  # so does a Java that does not run
        for subject, label in zip(subjects, labels(options.checkpoint), strict=True):
            captions = {cell: [] for cell in cells}
            for cell, said in caption_cells(subject, cells, options.seed, meteor):
                captions[cell] += said
            scores = score_cells(captions, truth, subject.config.data.no_change, meteor)
            runs.append({"label": label, "checkpoint": str(subject.path), **as_intervals(scores)})
            print("\n\n".join([f"{label} ({subject.path})", *tables(runs[-1])]), end="\n\n", flush=True)
            write(output, options, truth, runs)
    if len(runs) > 1:
        print("\n\n".join(comparison(runs)), end="\n\n")
    unchanged = int((~truth.changed).sum())
    print(f"{len(truth.changed)} pairs, {unchanged} unchanged; robustness.json, robustness.png in {output}")


def read_command(argv: list[str] | None, stored: dict | None = None) -> tuple[Config, Namespace]:
    """Options, and settings over those that a checkpoint stored."""
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, help="best.pt of run folders")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    every = list(PERTURBATIONS)
    parser.add_argument("--perturbations", nargs="+", default=every, choices=every)
    parser.add_argument("--severities", type=int, nargs="+", default=list(SEVERITIES), choices=SEVERITIES)
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the perturbations")
    parser.add_argument("--output", type=Path | None, help="folder for robustness.json and robustness.png")
    return parser.read(argv, stored)


def labels(checkpoints: Sequence[Path]) -> list[str]:
    """The names of the run folders; where two are alike, the whole paths."""
    names = [path.resolve().parent.name for path in checkpoints]
    return names if len(set(names)) == len(names) else [str(path) for path in checkpoints]


def open_subject(path: Path, argv: list[str] | None) -> Subject:
    """A checkpoint's model, and the pairs that it is to caption."""
    content = load_checkpoint(path)
    config, options = read_command(argv, content["config"])
    model, vocabulary = restore_model(content)
    pairs = []
    for split in options.split:
        reader, rows = open_split(split, config.data)
        check_size(reader, content["image_size"])
        pairs.append(ChangeCaptions(reader, rows=rows, captions="none", maps=config.data.maps))
    return Subject(path, model.to(pick_device(config.decode.device)), vocabulary, config, pairs)


def common_truth(subjects: Sequence[Subject]) -> Truth:
    """What people say of the pairs, which must be the same for all; ValueError where none is (un)changed."""
    truths = [what_people_say(subject.pairs) for subject in subjects]
    for subject, truth in zip(subjects, truths, strict=True):
        if truth.references != truths[0].references:
            raise ValueError(
                f"checkpoints are compared on the same pairs, {subject.path} has others than "
                f"{subjects[0].path}: give one --data.dir"
            )
    changed = truths[0].changed
    if changed.all() or not changed.any():
        raise ValueError(
            f"changed and unchanged pairs are needed, got {changed.sum()} changed of {len(changed)}: "
            "give another --split"
        )
    return truths[0]


def what_people_say(splits: Sequence[ChangeCaptions]) -> Truth:
    places = [(pairs.reader, row) for pairs in splits for row in pairs.rows]
    return Truth(
        references=[tuple(reader.references[row]) for reader, row in places],
        changed=np.array([bool(reader.changed[row]) for reader, row in places]),
    )


@torch.inference_mode()
def caption_cells(
    subject: Subject, cells: Sequence[Cell], seed: int, meteor: Meteor
) -> Iterator[tuple[Cell, list[str]]]:
    """The captions of some pairs in every cell, of which the first is the clean one; then of the next pairs.

    meteor: begins to score them while the next are decoded.
    """
    _, model, vocabulary, config, splits = subject
    for pairs in splits:
        order = batches(len(pairs), len(cells), config.decode.batch_size)
        loader = make_loader(PerturbedPairs(pairs, cells, seed), config.data, batch_sampler=order)
        for places, batch in zip(order, tqdm(loader, "captioning", unit="batch", leave=False), strict=True):
            cell, views = cells[places[0][0]], batch["views"].to(model.mean.device, non_blocking=True)
            with autocast(views.device, config.decode.precision):
                if cell == CLEAN:
                    clean = features = model.features(views)
                else:
                    features = mixed_features(model, clean, views, batch["differs"].to(views.device))
                answers = model.caption(
                    features, start=vocabulary.start, end=vocabulary.end, beam_size=config.decode.beam_size
                )
            captions = [vocabulary.decode(ranked[0].tokens) for ranked in answers]
            references = (tuple(pairs.reader.references[row]) for row in batch["index"].tolist())
            meteor.submit(zip(captions, references, strict=True))
            yield cell, captions


def batches(pairs: int, cells: int, size: int) -> list[list[tuple[int, int]]]:
    """(cell, pair) of each batch: `size` pairs in every cell, then the next ones, so that the clean features
    of these alone are kept."""
    shares = [range(pairs)[first : first + size] for first in range(0, pairs, size)]
    return [[(cell, pair) for pair in share] for share in shares for cell in range(cells)]


@torch.inference_mode()
def mixed_features(model: MModalCC, clean: Tensor, views: Tensor, differs: Tensor) -> Tensor:
    """`model.features` of views (B, 4, 3, H, W), of which only those that differ (B, 4) go through a trunk:
    the others' features are the clean ones (B, 2M, C, grid, grid)."""
    features = clean.clone()
    for modality, (encoder, dates) in zip(features.split(2, dim=1), model.encoders(), strict=True):
        struck = differs[:, dates]
        if struck.any():
            images = model.normalised(views[:, dates][struck])  # (n, 3, H, W)
            modality[struck] = encoder(images.unsqueeze(1)).squeeze(1)
    return features


def write(output: Path, options: Namespace, truth: Truth, runs: Sequence[dict[str, Any]]) -> None:
    content = {
        "split": options.split,
        "pairs": len(truth.changed),
        "unchanged": int((~truth.changed).sum()),
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
    (output / "robustness.json").write_text(json.dumps(content, indent=1))
    draw_robustness(output / "robustness.png", runs, HEADLINES)


if __name__ == "__main__":
    command.run(main)
