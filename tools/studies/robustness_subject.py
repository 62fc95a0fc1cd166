"""The checkpoints that tools/robustness.py compares, their pairs, and their captions of perturbed pairs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from configs import Config
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.precision import autocast
from tools.engine.decoding import CaptionDecoding
from tools.scoring.meteor import Meteor
from tools.studies.perturbation_scores import CLEAN, Cell, Truth
from tools.studies.perturbed_pairs import show_cells


class Subject(NamedTuple):
    """A tested checkpoint.

    config: its settings with those of the command line. pairs: by split. maps: "given", "void" or "detected".
    temperature: calibrates the probability of a change, which matters with `decode.change_threshold`.
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
    temperature: float | None = None


def labels(subjects: Sequence[Subject]) -> list[str]:
    """The names of the run folders, or the full paths if names repeat, with the kind of maps if not given."""
    names = [subject.path.resolve().parent.name for subject in subjects]
    if len(set(names)) < len(names):
        names = [str(subject.path) for subject in subjects]
    for index, subject in enumerate(subjects):
        if subject.maps != "given":
            names[index] += f", {subject.maps} maps"
    return names


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
    references, changed, sources = [], [], []
    for pairs in splits:
        reader = pairs.reader
        for row in pairs.rows:
            references.append(tuple(reader.references[row]))
            changed.append(bool(reader.changed[row]))
            sources.append(reader.sources[row])
    return Truth(references, np.array(changed), sources)


@torch.inference_mode()
def caption_cells(
    subject: Subject, cells: Sequence[Cell], seed: int, meteor: Meteor
) -> Iterator[tuple[Cell, list[str], list[bool]]]:
    """Caption a batch of pairs in every cell, the clean cell first, then the next batch of pairs.

    Yields the cell, the captions, and which pairs its perturbation altered (all for the clean cell). meteor:
    scores captions while the next ones are decoded.
    """
    model, vocabulary, config = subject.model, subject.vocabulary, subject.config
    decoding = CaptionDecoding(model, vocabulary, subject.no_change, config.decode, subject.temperature)
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
            decoded = decoding.decode({"views": None, "features": features})
            captions = [vocabulary.decode(pair.captions[0].tokens) for pair in decoded]
            references = (tuple(pairs.reader.references[row]) for row in rows)
            meteor.submit(zip(captions, references, strict=True))
            yield cell, captions, [True] * len(rows) if cell == CLEAN else differs.any(1).tolist()
