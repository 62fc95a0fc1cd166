"""The folder of a training run: settings, environment, log, curves and checkpoints."""

import json
import platform
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torchvision
import yaml
from torch.utils.tensorboard import SummaryWriter

from configs import Config, flat
from data.atomic_write import write_text
from data.errors import UserError
from tools.engine.checkpoint import Content, TrainingState, load_checkpoint, save_checkpoint
from tools.engine.provenance import commit
from tools.scoring.results import CaptionEntry, EpochLine, read_log, write_captions

MAY_CHANGE = {
    "data.dir", "data.no_change", "data.workers", "decode.batch_size", "decode.change_threshold",
    "decode.device",
    "train.checkpoint_minutes", "train.device", "train.early_stop", "train.epochs",
}  # fmt: skip
T = TypeVar("T")
SAMPLE = 8  # validation pairs whose captions TensorBoard shows each epoch


class RunFolder:
    """Opens a new run, or with resume=True the run of the folder.

    resumed: the content of last.pt; None for a run from the beginning. writes: True in one process; the
    methods of the others write nothing. Raises UserError if the folder holds a run and resume is False, or if
    a setting differs from the resumed run that is not in MAY_CHANGE.
    """

    def __init__(self, path: Path, config: Config, *, resume: bool, writes: bool = True) -> None:
        self.path, self.last, self.best = path, path / "last.pt", path / "best.pt"
        self.log = path / "log.jsonl"
        self.config, self.resume, self.writes = config, resume, writes
        if not resume and (path / "config.yaml").exists():
            raise UserError(
                f"{path} holds a run: go on with --resume (from the beginning where it has no "
                "checkpoint), or choose another folder with --run_dir"
            )
        self.resumed = self._read_last() if resume and self.last.exists() else None

    def _read_last(self) -> Content:
        content = load_checkpoint(self.last, training=True)
        stored = Config.from_dict(content["config"])
        if refused := changed_settings(stored, self.config, MAY_CHANGE):
            raise UserError(
                f"{self.path} was trained with other settings, {', '.join(refused)}: "
                "resume with the same, or start anew in another --run_dir"
            )
        before, now = stored.train.epochs, self.config.train.epochs
        if self.config.train.schedule == "one_cycle" and now != before:
            raise UserError(
                f"{self.path} was trained with train.schedule one_cycle, which plans the learning rates of "
                f"all train.epochs ({before}) at the start, so train.epochs cannot become {now}: to train "
                f"longer, start from its weights with --train.start_from {self.best} in a new --run_dir"
            )
        return content

    def begin(self, fingerprints: dict[str, str], lines: list[str]) -> None:
        """Write settings and environment, print `lines`, and remove log lines after the last checkpoint.

        fingerprints: of the data files. UserError if a resumed run began with other data.
        """
        self.fingerprints = fingerprints
        if self.resumed:
            self._check_data(self.resumed["training"]["data"])
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.yaml", yaml.safe_dump(self.config.to_dict(), sort_keys=False))
        with (self.path / "environment.jsonl").open("a") as file:
            file.write(json.dumps({**environment(), "data": fingerprints}) + "\n")
        epoch = steps = 0
        if self.resumed:
            epoch, steps = self.resumed["epoch"], self.resumed["training"]["progress"]["steps"]
            lines = [*lines, f"going on after step {steps}, in epoch {epoch + 1}"]
        elif self.resume:
            lines = [*lines, f"no {self.last}: starting from the beginning"]
        self._cut_log(epoch)
        self.events = SummaryWriter(self.path, purge_step=steps + 1)
        print(f"{self.path}: " + "\n".join(lines), file=sys.stderr)

    def _check_data(self, stored: dict[str, str] | str) -> None:
        """UserError if a data file differs; older checkpoints store the fingerprint of train alone."""
        if isinstance(stored, str):
            stored = {next(iter(self.fingerprints)): stored}
        for name, fingerprint in stored.items():
            if self.fingerprints.get(name) != fingerprint:
                raise UserError(
                    f"{Path(self.config.data.dir, name)} is not the data that this run began with: put the "
                    "old file back, or start a new run with another --run_dir"
                )

    def _cut_log(self, epoch: int) -> None:
        """Remove the lines of the log after `epoch`, the last complete one."""
        lines = [json.dumps(line) for line in read_log(self.log, "delete it") if line["epoch"] <= epoch]
        write_text(self.log, "".join(f"{line}\n" for line in lines))

    def write_step(self, step: int, loss: float, norm: float) -> None:
        """TensorBoard's curves of the training loss (mean so far in the epoch) and of the gradient's norm."""
        if self.writes:
            self.events.add_scalar("step/loss", loss, step)
            self.events.add_scalar("step/gradient_norm", norm, step)

    def write_epoch(self, step: int, line: EpochLine, captions: list[CaptionEntry]) -> None:
        """Write an epoch to the log, to standard error and to TensorBoard, and the validation captions."""
        if not self.writes:
            return
        with self.log.open("a") as log:
            log.write(json.dumps(line) + "\n")
        if captions:
            write_captions(self.path / "val_captions.json", captions)
        for key, value in flat(line).items():
            if isinstance(value, (int, float)):
                self.events.add_scalar(key.replace(".", "/"), value, step)
        for entry in sample_of(captions):
            text = f"{entry['caption']}\n\n(reference: {entry['references'][0]})"
            self.events.add_text(f"captions/{entry['filename']}", text, step)
        self.events.flush()
        print(self._epoch_text(line, len(captions)), file=sys.stderr)

    def _epoch_text(self, line: EpochLine, captions: int) -> str:
        """One line for standard error: scores, floors and warnings; " *" marks the best epoch so far."""
        scores = " ".join(f"{name} {value:.1f}" for name, value in line["val"].items())
        selected = self.config.train.select_on
        text = f"epoch {line['epoch']}: loss {line['loss']:.3f}, {scores}, "
        text += f"floor's {selected} {line['floor'][selected]:.1f}, "
        oracle = line.get("floor_oracle", {})
        if oracle:
            text += f"floor_oracle's {oracle[selected]:.1f}, "
        text += f"{line['seconds']:.0f} s"
        if line.get("distinct_captions") == 1 < captions:
            text += "; COLLAPSED: every validation caption is the same sentence"
        compared = {selected, "s_m"} & oracle.keys()
        if any(line["val"][name] <= oracle[name] for name in compared):
            text += "; WARNING: no better than a constant caption (floor_oracle)"
        return text + (" *" if line["best"] else "")

    def save(self, content: Content, training: TrainingState, *, best: bool) -> None:
        """Write last.pt, including `training` for --resume, and best.pt after the best epoch so far."""
        if self.writes and best:
            save_checkpoint(self.best, content)
        if self.writes:
            save_checkpoint(self.last, {**content, "training": {**training, "data": self.fingerprints}})


def sample_of(pairs: Sequence[T]) -> Sequence[T]:
    """SAMPLE evenly spaced pairs, the same in every epoch."""
    return pairs[:: max(1, len(pairs) // SAMPLE)][:SAMPLE]


def changed_settings(old: Config, new: Config, may_change: Collection[str]) -> list[str]:
    """The changed settings except those that may change, each as "key (old -> new)"."""
    before, after = flat(old.to_dict()), flat(new.to_dict())
    return [
        f"{key} ({before[key]} -> {after[key]})"
        for key in sorted(after)
        if before[key] != after[key] and key not in may_change
    ]


def environment() -> dict[str, Any]:
    """The software and hardware of a run."""
    return {
        "command": sys.argv,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }
