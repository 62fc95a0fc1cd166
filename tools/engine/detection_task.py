"""What train.py and eval.py need to know of change detection: the loss of a batch, the scores of a split."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from configs import Config
from data.atomic_write import check_writable, write_text
from data.dataset import Batch, ChangeCaptions, augmented_remark, make_loader, views_of
from data.palette import CLASSES
from data.sampler import SPARE
from data.splits import check_size, open_split
from models.change_detector import ChangeDetector, detection_loss
from models.precision import autocast, tune_convolutions
from tools.engine.checkpoint import restore_detector
from tools.engine.device import pick_device
from tools.engine.distributed import Agree, Processes
from tools.engine.progress_bar import progress_bar
from tools.scoring.detection import confusion, detection_scores, format_table, nothing_changed


@dataclass(frozen=True)
class DetectionLoss:
    """The detector's loss, summed over pairs. precision: of the forward pass, see models.precision."""

    precision: str

    def count(self, batch: Batch) -> int:
        """The pairs of a batch, which the loss is to be the mean over."""
        return (batch["index"] != SPARE).sum().item()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """views (B, 4, 3, H, W) uint8, of which the maps are the truth."""
        device = next(model.parameters()).device
        views = views_of(batch, device)
        truth = given_classes(views)
        counts = (batch["index"] != SPARE).to(device, non_blocking=True)
        with autocast(device, self.precision):
            found = model(views[:, :2], batch.get("plain"))
        return (detection_loss(found, truth) * counts).sum()


class DetectionTask:
    """The detector's loss and, each epoch, its scores on the validation pairs beside the floor.

    Has the methods of CaptioningTask, and like it is used as a context.
    """

    def __init__(
        self, config: Config, samples: ChangeCaptions, val_samples: ChangeCaptions, processes: Processes
    ) -> None:
        self.config, self.samples, self.val_samples, self.processes = config, samples, val_samples, processes
        self.loss = DetectionLoss(config.train.precision)

    def __enter__(self) -> "DetectionTask":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def content(self) -> dict[str, Any]:
        """What a checkpoint carries besides the model."""
        return {"image_size": list(self.samples.reader.image_size)}

    def validate(self, model: ChangeDetector, agree: Agree) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """An epoch's line for the log, the same in every process, and no captions.

        agree: called between batches.
        """
        pixels = confusion_of(model, self.val_samples, self.config, self.processes, agree)
        return {"val": detection_scores(pixels), "floor": detection_scores(nothing_changed(pixels))}, []

    def remarks(self) -> list[str]:
        """What is unusual about the validation pairs."""
        return augmented_remark(self.val_samples)


def given_classes(views: Tensor) -> Tensor:
    """The given maps of views (B, 4, 3, H, W) uint8 as places in CLASSES, (B, 2, H, W) int64, on its device.

    As `data.palette.map_classes`, for a GPU, which compares with every colour faster than it copies.
    """
    red, green, blue = views[:, 2:].int().unbind(2)
    codes = red << 16 | green << 8 | blue
    classes = torch.zeros_like(codes, dtype=torch.int64)
    for place, row in enumerate(CLASSES[1:], start=1):
        for red, green, blue in (row.base, row.brightened):
            classes.masked_fill_(codes == (red << 16 | green << 8 | blue), place)
    return classes


def confusion_of(
    model: ChangeDetector,
    samples: ChangeCaptions,
    config: Config,
    processes: Processes,
    agree: Agree | None = None,
) -> np.ndarray:
    """The confusion matrix over both dates of all samples; processes share them out, and each gets it.

    agree: called between batches.
    """
    model.eval()
    device = model.device
    share = Subset(samples, range(processes.rank, len(samples), processes.count))
    pixels = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    bar = progress_bar(description="detecting", total=len(share), unit="pair", shown=processes.writes)
    loader = make_loader(share, config.data, batch_size=config.decode.batch_size)
    for batch in processes.in_step(loader, len(samples), agree):
        with autocast(device, config.decode.precision):
            views = views_of(batch, device)
            found = model.classify(views[:, :2], batch["plain"])
        pixels += confusion(found, given_classes(views))
        bar.update(len(found))
    bar.close()
    return sum(processes.gather(pixels))


def evaluate(content: dict[str, Any], config: Config, evaluation: dict[str, Any], output: Path) -> None:
    """Score a checkpoint's detector, print the table and write scores.json, with `evaluation`, into `output`.

    evaluation: as in tools/engine/provenance.py; its splits are scored.
    """
    device = pick_device(config.decode.device)
    tune_convolutions(device)
    processes = Processes.join(device)
    if processes.writes:
        check_writable(output, "--output", folder=True)
    model = restore_detector(content).to(device)
    pixels = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    opened = [open_split(split, config.data) for split in evaluation["splits"]]
    for reader, _ in opened:
        check_size(reader, content["image_size"])
    for reader, rows in opened:
        samples = ChangeCaptions(reader, rows=rows, captions="none")
        pixels += confusion_of(model, samples, config, processes)
    processes.leave()
    if not processes.writes:
        return
    scores = {"ours": detection_scores(pixels), "floor": detection_scores(nothing_changed(pixels))}
    classes = {"classes": [row.name for row in CLASSES], "confusion": pixels.tolist()}
    found = {**scores, **classes, "evaluation": evaluation}
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "scores.json", json.dumps(found, indent=1))
    finally:  # a disk may be full by now
        print(format_table(scores))
    print(f"\nscores.json in {output}")
