"""Train a captioning model or the change detector on the HDF5 files of tools/create_input_files.py.

python train.py --config configs/second_cc.yaml
python train.py --config configs/second_cc.yaml --run_dir runs/short --train.epochs 2
python train.py --resume --run_dir runs/second_cc                          with the settings of the run folder
torchrun --nproc_per_node 4 train.py --config configs/second_cc.yaml       the same batch, divided among GPUs
python train.py --config configs/change_detector.yaml                      maps from images alone

The run folder (default runs/<name of the config>) gets config.yaml, environment.jsonl, log.jsonl (a line per
epoch), TensorBoard events, val_captions.json, best.pt (the best validation score) and last.pt, from which
--resume continues with the same result as an uninterrupted run. Ctrl-C and SIGTERM write last.pt and stop.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from configs import Config
from configs.command_line import CommandLine, Stored, early_option, read_stored, read_yaml
from data.dataset import fewer_workers_remark, make_loader
from data.errors import UserError
from data.splits import Reader, check_maps
from models import build_model
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.precision import make_scaler, precision_line, tune_convolutions
from tools.engine.captioning_task import CaptioningTask
from tools.engine.checkpoint import start_from
from tools.engine.compiling import compile_fixed
from tools.engine.detection_task import DetectionTask
from tools.engine.device import pick_device
from tools.engine.distributed import Processes, in_parallel
from tools.engine.folder_lock import locked
from tools.engine.interrupts import Interruption, deferred_interrupts
from tools.engine.kept_features import keep_features, trunk_features
from tools.engine.optimiser import decay_rates, make_optimiser, make_scheduler
from tools.engine.progress_bar import progress_bar
from tools.engine.run_folder import RunFolder
from tools.engine.run_state import check_same_progress, restore, seed_everything, training_state
from tools.engine.training_data import open_samples, step_sampler
from tools.engine.training_steps import Progress, TrainingSteps

TASKS = {"captioning": CaptioningTask, "detection": DetectionTask}


def main(argv: list[str] | None = None) -> None:
    config, run_dir, resume = read_command(argv)
    device = pick_device(config.train.device)
    tune_convolutions(device)
    processes = Processes.join(device)
    with ExitStack() as stack:
        with processes.together():
            if processes.writes:
                stack.enter_context(locked(run_dir, "wait until it has ended, or give another --run_dir"))
        train(config, run_dir, resume, device, processes)


def train(config: Config, run_dir: Path, resume: bool, device: torch.device, processes: Processes) -> None:
    """Train a model; no other command may write to `run_dir` meanwhile."""
    samples, val_samples = open_samples("train", config), open_samples("val", config)
    sampler = step_sampler(samples, config, rank=processes.rank, count=processes.count)
    folder = RunFolder(run_dir, config, resume=resume, writes=processes.writes)

    check_maps(val_samples.reader, samples.reader.maps, config.data.maps)
    model, start_remarks = initial_model(config, samples.reader, folder, device, processes)
    optimiser, scaler = make_optimiser(model, config.train), make_scaler(config.train.precision, device)
    progress = Progress()
    if folder.resumed:
        progress = restore(folder.resumed, model, optimiser, scaler, processes)
    check_same_progress(progress, run_dir, processes)
    scheduler = make_scheduler(optimiser, config.train, sampler.steps, progress.steps)
    if config.train.keep_features:
        features = partial(trunk_features, model, config.train.precision)
        keep_features((samples, val_samples), features, run_dir, processes)
    if config.train.compile:
        compile_fixed(model)
    trained = in_parallel(model, processes)
    loader = make_loader(samples, config.data, batch_sampler=sampler)
    task = TASKS[config.model.task](config, samples, val_samples, processes)
    remarks = [
        *start_remarks,
        parameters(model, device),
        precision_line(config.train.precision, device),
        *accumulate_remark(config),
        *fewer_workers_remark(loader, config.data.workers),
        f"samples: {len(samples)}, steps per epoch: {sampler.steps}, val pairs: {len(val_samples)}",
        *task.remarks(),
    ]
    folder.begin({**samples.fingerprints, **val_samples.fingerprints}, remarks)

    steps = TrainingSteps(
        trained, task.loss, optimiser, config.train, progress, processes,
        scaler=scaler, report=folder.write_step,
    )  # fmt: skip
    with deferred_interrupts() as interruption, task:
        run = Run(config, model, task, optimiser, scaler, progress, folder, processes, interruption)
        while progress.epoch <= config.train.epochs and progress.stale < config.train.early_stop:
            started = time.monotonic()
            sampler.begin(progress.epoch, progress.step)
            train_epoch(run, loader, steps, scheduler)
            run.save()  # a run that is stopped during validation resumes with it
            validate(run, started)
    processes.leave()
    if processes.writes:
        best = f"{config.train.select_on} {progress.best:.1f} on val"
        print(f"{folder.best}: {best}, epochs: {progress.epoch - 1}")


def initial_model(
    config: Config, reader: Reader, folder: RunFolder, device: torch.device, processes: Processes
) -> tuple[Captioner | ChangeDetector, list[str]]:
    """The model that a run begins with, and remarks about `train.start_from`. Seeds all generators.

    A resumed run loads its weights later.
    """
    vocabulary, palette = reader.vocabulary, reader.maps.palette
    seed_everything(config.train.seed)
    start = None if folder.resumed else config.train.start_from
    pretrained = not (folder.resumed or start)
    model = build_model(config.model, len(vocabulary), palette=palette, pretrained=pretrained).to(device)
    remarks = start_from(start, model, config.model, vocabulary, palette) if start else []
    seed_everything(config.train.seed + processes.rank)  # processes drop out different values
    return model, remarks


@dataclass(frozen=True)
class Run:
    """The objects that the epochs of a run share."""

    config: Config
    model: Captioner | ChangeDetector
    task: CaptioningTask | DetectionTask
    optimiser: Optimizer
    scaler: GradScaler
    progress: Progress
    folder: RunFolder
    processes: Processes
    interruption: Interruption

    def save(self, scores: dict[str, float] | None = None, best: bool = False) -> None:
        """Write last.pt, and best.pt after the best epoch so far."""
        content = {
            "model": self.model.state_dict(),
            "config": self.config.to_dict(),
            **self.task.content(),
            "epoch": self.progress.epoch - 1,  # complete epochs
            "scores": scores,
        }
        state = training_state(self.optimiser, self.scaler, self.progress, self.processes)
        with self.processes.together():
            self.folder.save(content, state, best=best)

    def agree(self, done: bool = False) -> bool:
        """Whether any process is done. Raises KeyboardInterrupt in all if one has received a signal."""
        stop, done = self.processes.sum(self.interruption.arrived, done)
        if stop:
            self.stop()
        return bool(done)

    def stop(self) -> NoReturn:
        raise KeyboardInterrupt(f"after step {self.progress.steps}: go on with --resume")


def train_epoch(run: Run, loader: DataLoader, steps: TrainingSteps, scheduler: LRScheduler | None) -> None:
    """Take the remaining steps of an epoch; last.pt is written every `train.checkpoint_minutes`."""
    config, progress = run.config.train, run.progress
    run.model.train()
    saved = time.monotonic()
    bar = progress_bar(loader, f"epoch {progress.epoch}", unit="step", shown=run.processes.writes)
    for batch in bar:
        due = time.monotonic() - saved > 60 * config.checkpoint_minutes
        stop, due = steps.agree(batch, run.interruption.arrived, due)
        if stop or due:
            steps.finish()
            run.save()
            saved = time.monotonic()
        if stop:
            run.stop()
        if progress.step == 0:  # a run resumed within an epoch has already decayed
            decay_rates(run.optimiser, config, epochs=progress.epoch - 1, stale=progress.stale)
        steps.take(batch)
        if scheduler:
            scheduler.step()
    steps.finish()


def validate(run: Run, started: float) -> None:
    """Score the validation pairs; write a line of log.jsonl, the captions, last.pt and, if best, best.pt.

    started: time.monotonic() at the start of the epoch.
    """
    progress = run.progress
    with torch.compiler.set_stance("force_eager"):  # validation's batches have other shapes
        scores, captions = run.task.validate(run.model, run.agree)
    line = {"epoch": progress.epoch, "loss": progress.loss / progress.count, **scores}
    line["learning_rate"] = {group["part"]: group["lr"] for group in run.optimiser.param_groups}
    line["best"] = best = progress.end_epoch(scores["val"][run.config.train.select_on])
    line["seconds"] = round(time.monotonic() - started, 1)
    run.folder.write_epoch(progress.steps, line, captions)
    run.save(scores["val"], best)


def read_command(argv: list[str] | None) -> tuple[Config, Path, bool]:
    """The configuration, the run folder and whether to resume its run.

    Without --config, a run is resumed with the settings in its folder.
    """
    parser = CommandLine(__doc__)
    parser.add_argument("--config", action="config", help="a YAML file, see configs/")
    parser.add_argument("--run_dir", type=Path | None, help="default: runs/<name of the config>")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last.pt")
    argv = sys.argv[1:] if argv is None else argv
    run_dir = early_option(argv, "--run_dir")
    has_config = early_option(argv, "--config") is not None
    stored = None
    if "--resume" in argv and run_dir and not has_config:
        stored = stored_settings(Path(run_dir))
    elif not has_config and not {"-h", "--help"} & set(argv):
        raise UserError(
            "--config is missing: give a file of configs/, such as configs/second_cc.yaml, or --resume with "
            "the --run_dir of a run"
        )
    config, options = parser.read(argv, stored)
    config.data.check_training(config.model.task)
    return config, options.run_dir or Path("runs") / Path(str(options.config[0])).stem, options.resume


def stored_settings(run_dir: Path) -> Stored:
    """The settings of the run in a folder; UserError if it holds none or they are invalid."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise UserError(f"{path} not found: give --config to start a run, or the --run_dir of another run")
    try:
        return read_stored(read_yaml(path)).to_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}: give the run's --config") from None


def parameters(model: nn.Module, device: torch.device) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained / 1e6:.1f} of {total / 1e6:.1f} M parameters are trained, on {device}"


def accumulate_remark(config: Config) -> list[str]:
    """A remark if `train.accumulate` changes the gradients and not only the memory."""
    if config.train.accumulate == 1 or not config.model.has_live_batchnorm:
        return []
    return [
        f"train.accumulate {config.train.accumulate}: live BatchNorm takes the statistics of each portion, "
        "so gradients differ from those of the whole batch"
    ]


if __name__ == "__main__":
    cli.run(main)
