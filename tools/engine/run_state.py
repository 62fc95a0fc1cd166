"""The state of a training run: seeds, the part of last.pt that --resume needs, and restoring it."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from data.errors import UserError
from tools.engine.checkpoint import Content, TrainingState, load_weights, misfit
from tools.engine.distributed import Processes
from tools.engine.optimiser import load_optimiser
from tools.engine.training_steps import Progress


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def training_state(
    optimiser: Optimizer, scaler: GradScaler, progress: Progress, processes: Processes
) -> TrainingState:
    """What --resume needs besides the model. The state of the scaler is {} except for fp16."""
    return {
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "progress": asdict(progress),
        "random": processes.gather(_random_state()),
    }


def restore(
    content: Content, model: nn.Module, optimiser: Optimizer, scaler: GradScaler, processes: Processes
) -> Progress:
    """Restore a run from the content of last.pt; UserError if another number of processes wrote it.

    The scaler keeps its initial state if the run had none, as on another device or in older checkpoints.
    """
    training = content["training"]
    if len(training["random"]) != processes.count:
        raise UserError(
            f"a run must be resumed with the same number of processes, {len(training['random'])}, got "
            f"{processes.count}: start as many"
        )
    load_weights(model, content)
    del content["model"]  # free its memory
    try:
        load_optimiser(optimiser, training.pop("optimiser"))
        if stored := training.get("scaler"):
            scaler.load_state_dict(stored)
        _set_random_state(training["random"][processes.rank])
        return Progress.restored(training["progress"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise misfit(content, f"its training state cannot be restored ({error})") from None


def check_same_progress(progress: Progress, run_dir: Path, processes: Processes) -> None:
    """UserError if processes resume after different steps, as on machines without a common run folder."""
    steps = [each.steps for each in processes.gather(progress)]
    if len(set(steps)) > 1:
        raise UserError(
            f"all processes must go on after the same step, they are at {', '.join(map(str, steps))}: give a "
            f"--run_dir that all machines share, or copy {run_dir / 'last.pt'} of the first one to the others"
        )


def _random_state() -> dict[str, Any]:
    """The state of every random generator, in types that a checkpoint can hold."""
    algorithm, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [algorithm, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    """Inverse of `_random_state`; the state of a GPU is set only if there is one and it was saved."""
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
