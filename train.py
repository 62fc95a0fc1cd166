"""Train MModalCC, or the change detector, on the HDF5 files that tools/create_input_files.py wrote.

python train.py --config configs/second_cc.yaml
python train.py --config configs/second_cc.yaml --run_dir runs/short --train.epochs 2
python train.py --config configs/second_cc.yaml --resume
torchrun --nproc_per_node 4 train.py --config configs/second_cc.yaml       the same batch, shared out
python train.py --config configs/change_detector.yaml                      maps from images alone

The run folder (default runs/<name of the config>) gets config.yaml, environment.jsonl, log.jsonl (a line an
epoch), TensorBoard events, val_captions.json, best.pt (the best validation score) and last.pt, from which
--resume goes on as if nothing had happened. Ctrl-C and SIGTERM write last.pt and end the run.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import random
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from tqdm import tqdm

from configs import Config
from configs.command_line import CommandLine
from data.dataset import fewer_workers_remark, make_loader
from data.errors import UserError
from models import build_model
from models.captioner import Captioner
from models.precision import autocast, make_scaler, precision_line, tune_convolutions
from tools.engine.captioning_task import CaptioningTask
from tools.engine.checkpoint import load_weights, misfit, random_state, set_random_state, start_from
from tools.engine.compiling import compile_fixed
from tools.engine.detection_task import DetectionTask
from tools.engine.device import pick_device
from tools.engine.distributed import Processes, in_parallel
from tools.engine.folder_lock import locked
from tools.engine.interrupts import deferred_interrupts
from tools.engine.kept_features import keep_features
from tools.engine.optimiser import decay_decoder, load_optimiser, make_optimiser, make_scheduler
from tools.engine.run_folder import RunFolder
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
    """Train in a folder that no other process writes to."""
    samples, val_samples = open_samples("train", config), open_samples("val", config)
    vocabulary = samples.reader.vocabulary
    sampler = step_sampler(samples, config, rank=processes.rank, count=processes.count)
    folder = RunFolder(run_dir, config, resume=resume, writes=processes.writes)

    seed_everything(config.train.seed)
    start = None if folder.resumed else config.train.start_from
    model = build_model(config.model, len(vocabulary), pretrained=not (folder.resumed or start)).to(device)
    if start:
        start_from(start, model, config.model, vocabulary)
    seed_everything(config.train.seed + processes.rank)  # processes drop out different values
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
    size = f"samples: {len(samples)}, steps per epoch: {sampler.steps}, val pairs: {len(val_samples)}"
    remarks = [
        precision_line(config.train.precision, device),
        *accumulate_remark(config),
        *fewer_workers_remark(loader, config.data.workers),
        size,
        *task.remarks(),
    ]
    fingerprints = {**samples.fingerprints, **val_samples.fingerprints}
    folder.begin(fingerprints, [parameters(model, device), *remarks])

    def save(scores: dict[str, float] | None = None, best: bool = False) -> None:
        content = {
            "model": model.state_dict(),
            "config": config.to_dict(),
            **task.content(),
            "epoch": progress.epoch - 1,  # whole ones
            "scores": scores,
        }
        state = training_state(optimiser, scaler, progress, processes)
        with processes.together():
            folder.save(content, state, best=best)

    def agree(done: bool = False) -> bool:
        stop, done = processes.sum(interruption.arrived, done)
        if stop:
            raise KeyboardInterrupt(f"after step {progress.steps}: go on with --resume")
        return bool(done)

    steps = TrainingSteps(
        trained,
        task.loss,
        optimiser,
        config.train,
        progress,
        processes,
        scaler=scaler,
        report=folder.write_step,
    )
    with deferred_interrupts() as interruption, task:
        while progress.epoch <= config.train.epochs and progress.stale < config.train.early_stop:
            started = saved = time.monotonic()
            sampler.begin(progress.epoch, progress.step)
            model.train()
            bar = tqdm(
                loader, f"epoch {progress.epoch}", unit="step", leave=False, disable=not processes.writes
            )
            for batch in bar:
                due = time.monotonic() - saved > 60 * config.train.checkpoint_minutes
                stop, due = steps.agree(batch, interruption.arrived, due)
                if stop or due:
                    steps.finish()
                    save()
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt(f"after step {progress.steps}: go on with --resume")
                if progress.step == 0:
                    decay_decoder(optimiser, config.train, progress.stale)
                steps.take(batch)
                if scheduler:
                    scheduler.step()
            steps.finish()

            save()  # a run that stops from here on goes on with this validation
            with torch.compiler.set_stance("force_eager"):  # validation's batches have other shapes
                judged, captions = task.validate(model, agree)
            line = {"epoch": progress.epoch, "loss": progress.loss / progress.count, **judged}
            line["learning_rate"] = {group["part"]: group["lr"] for group in optimiser.param_groups}
            line["best"] = best = progress.judge(judged["val"][config.train.select_on])
            line["seconds"] = round(time.monotonic() - started, 1)
            folder.write_epoch(progress.steps, line, captions)
            save(judged["val"], best)
    processes.leave()
    if processes.writes:
        scored = f"{config.train.select_on} {progress.best:.1f} on val"
        print(f"{folder.best}: {scored}, epochs: {progress.epoch - 1}")


def read_command(argv: list[str] | None) -> tuple[Config, Path, bool]:
    parser = CommandLine(__doc__)
    parser.add_argument("--config", action="config", help="a YAML file, see configs/")
    parser.add_argument("--run_dir", type=Path | None, help="default: runs/<name of the config>")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last.pt")
    config, options = parser.read(argv)
    if not options.config:
        raise UserError("--config is missing: give a file of configs/, such as configs/second_cc.yaml")
    config.data.check_training(config.model.task)
    return config, options.run_dir or Path("runs") / Path(str(options.config[0])).stem, options.resume


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@torch.inference_mode()
def trunk_features(model: Captioner, precision: str, views: Tensor) -> Tensor:
    """What the frozen trunks make of views (B, 4, 3, H, W) uint8, kept as bfloat16: (B, 4, C, grid, grid)."""
    device = model.device
    with autocast(device, precision):
        return model.eval().features(views.to(device)).bfloat16()


def training_state(
    optimiser: Optimizer, scaler: GradScaler, progress: Progress, processes: Processes
) -> dict[str, Any]:
    """What --resume needs besides the model: optimiser, progress, each process's random generators, and the
    scale of fp16's losses, {} for other precisions."""
    return {
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "progress": asdict(progress),
        "random": processes.gather(random_state()),
    }


def restore(
    content: dict[str, Any],
    model: nn.Module,
    optimiser: Optimizer,
    scaler: GradScaler,
    processes: Processes,
) -> Progress:
    """Put a run back to where last.pt was written; UserError where another number of processes wrote it.

    A scaler begins anew where the run had none, as on another device or in older checkpoints.
    """
    training = content["training"]
    if len(training["random"]) != processes.count:
        raise UserError(
            f"a run goes on with as many processes as it had, {len(training['random'])}: "
            f"got {processes.count}, start as many"
        )
    load_weights(model, content)
    del content["model"]  # its memory is not needed again
    try:
        load_optimiser(optimiser, training.pop("optimiser"))
        if stored := training.get("scaler"):
            scaler.load_state_dict(stored)
        set_random_state(training["random"][processes.rank])
        return Progress.restored(training["progress"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise misfit(content, f"its training state cannot be restored ({error})") from None


def check_same_progress(progress: Progress, run_dir: Path, processes: Processes) -> None:
    """UserError where processes go on from different places, as on machines without a common run folder."""
    steps = [each.steps for each in processes.gather(progress)]
    if len(set(steps)) > 1:
        raise UserError(
            f"all processes must go on after the same step, they are at {', '.join(map(str, steps))}: give a "
            f"--run_dir that all machines share, or copy {run_dir / 'last.pt'} of the first one to the others"
        )


def parameters(model: nn.Module, device: torch.device) -> str:
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    return f"{learning / 1e6:.1f} of {every / 1e6:.1f} M parameters learn, on {device}"


def accumulate_remark(config: Config) -> list[str]:
    """A line where `train.accumulate` changes what is trained, not only the memory that it takes."""
    if config.train.accumulate == 1 or not config.model.has_live_batchnorm:
        return []
    return [
        f"train.accumulate {config.train.accumulate}: live BatchNorm takes the statistics of each portion, "
        "so gradients differ from those of the whole batch"
    ]


if __name__ == "__main__":
    cli.run(main)
