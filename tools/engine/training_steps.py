"""Training steps. The CPU queues a step on the GPU before it reads the result of the previous one."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from configs import TrainConfig
from data.dataset import Batch
from data.sampler import SPARE
from models.shared_batchnorm import left_out_of_statistics
from tools.engine.captioning_task import CaptionLoss
from tools.engine.detection_task import DetectionLoss
from tools.engine.distributed import Processes, split_batch
from tools.engine.optimiser import clip_gradients, step_if

MOST_SKIPPED = 20  # steps in a row: they halve fp16's first scale, 2 ** 16, to less than 1


@dataclass
class Progress:
    """The progress of a run.

    epoch: the current one, from 1. step: number of its steps so far. loss, count: their summed loss, and the
    number of words (for a detector, pairs) in it. steps: number of steps of all epochs. best: the best
    validation score. stale: number of epochs since then. skipped: number of the latest steps in a row whose
    scaled gradients were too large for fp16.
    """

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    count: float = 0.0
    steps: int = 0
    stale: int = 0
    best: float = float("-inf")
    skipped: int = 0

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Progress":
        """Inverse of `asdict`. Raises TypeError on an unknown key or a value that is not a number."""
        for key, value in state.items():
            if not isinstance(value, int | float):
                raise TypeError(f"progress.{key} is not a number but {value!r}")
        return cls(**state)

    def end_epoch(self, score: float) -> bool:
        """Whether an epoch's validation score is the best so far. Counts stale epochs and starts the next."""
        improved = score > self.best
        self.best, self.stale = max(score, self.best), 0 if improved else self.stale + 1
        self.epoch, self.step, self.loss, self.count = self.epoch + 1, 0, 0.0, 0.0
        return improved


class QueuedStep:
    """A step that a GPU may not have finished.

    name, pairs: for messages. number: its number among the steps of all epochs. count: number of words or
    pairs in its loss. values: the summed loss of each micro-batch of this process, then the norm of the
    gradient of all processes. They are copied to the CPU as soon as the GPU has computed them.
    """

    def __init__(self, name: str, pairs: list[int], number: int, count: float, values: list[Tensor]) -> None:
        self.name, self.pairs, self.number, self.count = name, pairs, number, count
        stacked = torch.stack([value.to(values[0].dtype) for value in values])
        self._values = stacked.to("cpu", non_blocking=True)
        self._copied = torch.cuda.current_stream().record_event() if stacked.is_cuda else None

    @cached_property
    def result(self) -> tuple[float, float]:
        """Summed loss and gradient norm; waits until the GPU has finished this step, not those after it."""
        if self._copied:
            self._copied.synchronize()
        *losses, norm = self._values.tolist()
        return sum(losses), norm


class TrainingSteps:
    """Takes training steps on batches that are divided among processes.

    Call `agree`, then `take`, for each batch, and `finish` before you read the model or the progress. In
    between, the results of the last two steps are unknown: the GPU computes one step while the CPU queues the
    next, and the CPU waits once per step, in `agree`. A step whose gradient is not finite does not change the
    weights.

    scaler: of the losses, for fp16. report: called with the number of a finished step, the mean loss of the
    epoch up to it, and the norm of its gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: CaptionLoss | DetectionLoss,
        optimiser: Optimizer,
        config: TrainConfig,
        progress: Progress,
        processes: Processes,
        *,
        scaler: GradScaler | None = None,
        report: Callable[[int, float, float], None] = lambda *_: None,
    ) -> None:
        self.model, self.loss, self.optimiser, self.config = model, loss, optimiser, config
        self.progress, self.processes, self.report = progress, processes, report
        self.scaler = scaler or GradScaler(enabled=False)
        self.queued: list[QueuedStep] = []  # at most the last two
        self.count = self.samples = 0.0  # of the current batch: words (or pairs) and samples

    def agree(self, batch: Batch, *flags: bool) -> list[bool]:
        """Sum the sizes of the next batch over all processes; returns which flags are set in any of them.

        This is the only exchange of numbers between processes, once per step. It includes the loss of the
        step before the last; ValueError if that loss or its gradient is not finite.
        """
        finished, self.queued = self.queued[:-1], self.queued[-1:]
        samples = int((batch["index"] != SPARE).sum())
        losses = [step.result[0] for step in finished]
        totals = self.processes.sum(self.loss.count(batch), samples, *flags, *losses)
        self.count, self.samples = totals[:2]
        self._enter(finished, totals[2 + len(flags) :])
        return [total > 0 for total in totals[2 : 2 + len(flags)]]

    def take(self, batch: Batch) -> None:
        """Queue a step on this process's share of the batch, in `accumulate` micro-batches.

        The loss is the mean over the words (or pairs) of the whole batch; it does not depend on the number of
        processes and micro-batches.
        """
        micro_batches = split_batch(batch, int(self.samples), self.config.accumulate, self.processes)
        self.optimiser.zero_grad(set_to_none=True)
        losses = []
        for number, micro_batch in enumerate(micro_batches, start=1):
            losses.append(self._backward(batch, micro_batch, last=number == len(micro_batches)))
        self.scaler.unscale_(self.optimiser)
        gradients = []
        for group in self.optimiser.param_groups:
            gradients += [parameter.grad for parameter in group["params"] if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        clip_gradients(self.optimiser, self.config)
        step_if(norm.isfinite(), self.optimiser)
        self.scaler.update()

        progress = self.progress
        progress.step, progress.steps = progress.step + 1, progress.steps + 1
        name = f"step {progress.step} of epoch {progress.epoch}"
        pairs = batch["index"].tolist()
        self.queued.append(QueuedStep(name, pairs, progress.steps, self.count, [*losses, norm]))

    def _backward(self, batch: Batch, micro_batch: Batch, *, last: bool) -> Tensor:
        """Accumulate the gradients of a micro-batch; returns its summed loss."""
        with ExitStack() as contexts:
            if not last and self.processes.count > 1:
                contexts.enter_context(self.model.no_sync())
            empty = len(micro_batch["index"]) == 0
            if empty:  # use a sample with weight 0, because all processes must take part in the exchange
                contexts.enter_context(left_out_of_statistics(self.model))
                micro_batch = {name: values[:1] for name, values in batch.items()}
            summed = self.loss(self.model, micro_batch) * (not empty)
            # times `count` because DistributedDataParallel averages over processes
            self.scaler.scale(summed * self.processes.count / self.count).backward()
        return summed.detach()

    def finish(self) -> None:
        """Wait for the queued steps; ValueError if a loss or a gradient is not finite."""
        finished, self.queued = self.queued, []
        if finished:
            self._enter(finished, self.processes.sum(*(step.result[0] for step in finished)))

    def take_and_wait(self, batch: Batch) -> None:
        """Take a single step and wait for its result."""
        self.agree(batch)
        self.take(batch)
        self.finish()

    def _enter(self, finished: list[QueuedStep], losses: list[float]) -> None:
        """Update the progress with finished steps and their losses, summed over processes."""
        progress = self.progress
        for step, loss in zip(finished, losses, strict=True):
            norm = step.result[1]
            # fp16: the scaler lowers its scale until the gradients are small enough
            skipped = self.scaler.is_enabled() and math.isfinite(loss) and not math.isfinite(norm)
            progress.skipped = progress.skipped + 1 if skipped else 0
            if progress.skipped > MOST_SKIPPED or not (skipped or math.isfinite(loss + norm)):
                raise ValueError(
                    f"{step.name} has loss {loss / step.count:.4g} and gradient norm {norm:.4g} "
                    f"(pairs {step.pairs} of the training file): lower train.learning_rate"
                )
            progress.loss, progress.count = progress.loss + loss, progress.count + step.count
            if not skipped:
                self.report(step.number, progress.loss / progress.count, norm)
