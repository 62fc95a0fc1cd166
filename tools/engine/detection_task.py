"""The change-detection task of train.py and eval.py: the loss of a batch and the scores of a split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from configs import Config
from data.atomic_write import check_writable
from data.dataset import Batch, ChangeCaptions, augmented_remark, make_loader, views_of
from data.maps.settings import MapSettings
from data.palette import SECOND, Palette
from data.sampler import SPARE
from data.splits import check_maps, check_size, open_split
from models.change_detector import ChangeDetector, detection_loss
from models.precision import autocast, tune_convolutions
from tools.engine.checkpoint import Content, restore_detector
from tools.engine.device import pick_device
from tools.engine.distributed import Agree, Processes
from tools.engine.progress_bar import progress_bar
from tools.engine.provenance import refuse_other_data
from tools.scoring.detection import confusion, detection_scores, format_table, nothing_changed
from tools.scoring.results import CaptionEntry, Evaluation, Validation, write_scores


@dataclass(frozen=True)
class DetectionLoss:
    """The detector's loss, summed over pairs.

    precision: of the forward pass, see models.precision. palette: of the maps.
    """

    precision: str
    palette: Palette = SECOND

    def count(self, batch: Batch) -> int:
        """The number of pairs of a batch; the loss is the mean over them."""
        return (batch["index"] != SPARE).sum().item()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The summed loss of views (B, 4, 3, H, W) uint8, whose maps are the ground truth."""
        device = next(model.parameters()).device
        views = views_of(batch, device)
        truth = given_classes(views, self.palette)
        counts = (batch["index"] != SPARE).to(device, non_blocking=True)
        with autocast(device, self.precision):
            detection = model(views[:, :2], batch.get("plain"))
        return (detection_loss(detection, truth) * counts).sum()


class DetectionTask:
    """Scores the detector on the validation pairs after each epoch, beside the floor.

    It has the interface of CaptioningTask.
    """

    def __init__(
        self, config: Config, samples: ChangeCaptions, val_samples: ChangeCaptions, processes: Processes
    ) -> None:
        self.config, self.samples, self.val_samples, self.processes = config, samples, val_samples, processes
        self.loss = DetectionLoss(config.train.precision, samples.reader.maps.palette)

    def __enter__(self) -> "DetectionTask":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def content(self) -> Content:
        """The parts of a checkpoint besides the model."""
        reader = self.samples.reader
        return {"image_size": list(reader.image_size), **reader.maps.to_dict()}

    def validate(self, model: ChangeDetector, agree: Agree) -> tuple[Validation, list[CaptionEntry]]:
        """The scores of an epoch, the same in every process; no captions. agree: called between batches."""
        pixels = confusion_of(model, self.val_samples, self.config, self.processes, agree)
        return {"val": detection_scores(pixels), "floor": detection_scores(nothing_changed(pixels))}, []

    def remarks(self) -> list[str]:
        """Warnings about the validation pairs."""
        return augmented_remark(self.val_samples)


def given_classes(views: Tensor, palette: Palette = SECOND) -> Tensor:
    """The maps of views (B, 4, 3, H, W) uint8 as class indices (B, 2, H, W) int64, on their device.

    As `Palette.map_classes`, but faster on a GPU: it compares with every colour.
    """
    red, green, blue = views[:, 2:].int().unbind(2)
    codes = red << 16 | green << 8 | blue
    classes = torch.zeros_like(codes, dtype=torch.int64)
    for colours in (palette.prepared, palette.brightened):
        for index, (red, green, blue) in enumerate(colours, start=1):
            classes.masked_fill_(codes == (red << 16 | green << 8 | blue), index)
    return classes


def confusion_of(
    model: ChangeDetector,
    samples: ChangeCaptions,
    config: Config,
    processes: Processes,
    agree: Agree | None = None,
) -> np.ndarray:
    """The confusion matrix of all samples and both dates, in every process. agree: called between batches."""
    model.eval()
    device, count = model.device, len(model.palette.labels)
    share = Subset(samples, range(processes.rank, len(samples), processes.count))
    pixels = np.zeros((count, count), dtype=np.int64)
    bar = progress_bar(description="detecting", total=len(share), unit="pair", shown=processes.writes)
    loader = make_loader(share, config.data, batch_size=config.decode.batch_size)
    for batch in processes.in_step(loader, len(samples), agree):
        with autocast(device, config.decode.precision):
            views = views_of(batch, device)
            predicted = model.classify(views[:, :2], batch["plain"])
        pixels += confusion(predicted, given_classes(views, model.palette), count)
        bar.update(len(predicted))
    bar.close()
    return sum(processes.gather(pixels))


def evaluate(
    content: Content, config: Config, evaluation: Evaluation, output: Path, *, replace: bool
) -> None:
    """Score a checkpoint's detector on the splits of `evaluation`; print the table, write scores.json.

    replace: whether scores on other data may be replaced.
    """
    device = pick_device(config.decode.device)
    tune_convolutions(device)
    processes = Processes.join(device)
    if processes.writes:
        check_writable(output, "--output", folder=True)
    model = restore_detector(content).to(device)
    labels = list(model.palette.labels)
    pixels = np.zeros((len(labels), len(labels)), dtype=np.int64)
    opened = [open_split(split, config.data) for split in evaluation["splits"]]
    for reader, _ in opened:
        check_size(reader, content["image_size"])
        check_maps(reader, MapSettings.stored(content))
    if not replace:
        refuse_other_data(output / "scores.json", evaluation)
    for reader, rows in opened:
        samples = ChangeCaptions(reader, rows=rows, captions="none")
        pixels += confusion_of(model, samples, config, processes)
    processes.leave()
    if not processes.writes:
        return
    scores = {"ours": detection_scores(pixels), "floor": detection_scores(nothing_changed(pixels))}
    classes = {"classes": labels, "confusion": pixels.tolist()}
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_scores(output / "scores.json", {**scores, **classes, "evaluation": evaluation})
    finally:  # print the scores even if the disk is full
        print(format_table(scores))
    print(f"\nscores.json in {output}")
