"""Steps are queued ahead of their results, and a step that is not finite changes nothing."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from configs import TrainConfig
from data.dataset import collate
from tests.helpers.tiny import PAD, random_tokens, random_views, tiny_model
from tests.helpers.waiting import waits
from tools.engine.captioning_task import CaptionLoss
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser, step_if
from tools.engine.training_steps import MOST_SKIPPED, Progress, TrainingSteps

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Counting(Processes):
    """sums: what each exchange of this process has exchanged."""

    sums: list[tuple[float, ...]] = field(default_factory=list)

    def sum(self, *values: float) -> list[float]:
        self.sums.append(values)
        return super().sum(*values)


class Spoilt:
    """A caption loss times `factor`, which makes loss and gradients infinite or NaN."""

    def __init__(self, factor: float = 1.0) -> None:
        self.plain, self.factor = CaptionLoss(PAD, "float32"), factor

    def count(self, batch):
        return self.plain.count(batch)

    def __call__(self, model, batch):
        return self.plain(model, batch) * self.factor


class LargeGradients(torch.autograd.Function):
    """The loss as it is, with infinite gradients, as where fp16 overflows in the backward pass."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


class Overflowing(Spoilt):
    """Gradients overflow while the scale of the losses is above `bearable`."""

    def __init__(self, scaler: torch.amp.GradScaler, bearable: float) -> None:
        super().__init__()
        self.scaler, self.bearable = scaler, bearable

    def __call__(self, model, batch):
        loss = super().__call__(model, batch)
        return LargeGradients.apply(loss) if self.scaler.get_scale() > self.bearable else loss


def batch_of(pairs: int) -> dict[str, torch.Tensor]:
    views, tokens = random_views(pairs), random_tokens(pairs, 1, 6)
    samples = zip(views, tokens, strict=True)
    return collate([{"views": v, "tokens": t, "index": torch.tensor(i)} for i, (v, t) in enumerate(samples)])


def steps_of(loss=None, processes=None, **options) -> TrainingSteps:
    model, config = tiny_model().train(), TrainConfig(learning_rate=1e-3)
    loss = loss or CaptionLoss(PAD, "float32")
    optimiser = make_optimiser(model, config)
    return TrainingSteps(model, loss, optimiser, config, Progress(), processes or Processes(), **options)


def take(steps: TrainingSteps, batch: dict[str, torch.Tensor]) -> None:
    steps.agree(batch)
    steps.take(batch)


def weights(steps: TrainingSteps) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in steps.model.parameters()]


def equal(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_results_are_known_two_steps_later():
    steps, batch, reported = steps_of(report=lambda number, *_: reported.append(number)), batch_of(2), []
    for _ in range(3):
        take(steps, batch)
    assert steps.progress.steps == 3
    assert reported == [1]
    assert len(steps.queued) == 2
    steps.finish()
    assert reported == [1, 2, 3]
    assert steps.progress.count == 3 * steps.count


def test_mean_loss_of_an_epoch_covers_only_its_steps():
    means = []
    loss = Spoilt(factor=100.0)
    steps = steps_of(loss, report=lambda number, mean, norm: means.append(mean))
    steps.take_and_wait(batch_of(2))
    steps.progress.end_epoch(1.0)
    loss.factor = 1.0
    steps.take_and_wait(batch_of(2))
    assert steps.progress.count == steps.count
    assert means[1] < means[0] / 10


def test_taking_a_step_does_not_synchronise():
    steps, batch = steps_of(), batch_of(2)
    take(steps, batch)
    assert waits(lambda: take(steps, batch), CPU) == 0


def test_synchronisations_are_counted():
    assert waits(lambda: torch.ones(3).sum().item(), CPU) == 1


def test_processes_exchange_numbers_once_a_step():
    processes = Counting()
    steps, batch = steps_of(processes=processes), batch_of(2)
    for number in range(3):
        assert steps.agree(batch, True, False) == [True, False]
        steps.take(batch)
        assert len(processes.sums) == number + 1
    steps.finish()
    assert len(processes.sums) == 4


def test_queued_steps_equal_awaited_steps():
    batch, queued, awaited = batch_of(2), steps_of(), steps_of()
    for _ in range(3):
        take(queued, batch)
        awaited.take_and_wait(batch)
    queued.finish()
    assert queued.progress == awaited.progress
    assert equal(weights(queued), weights(awaited))


def test_a_step_that_is_not_finite_changes_no_weight_and_ends_the_run():
    loss, batch = Spoilt(), batch_of(2)
    steps = steps_of(loss)
    take(steps, batch)
    before = weights(steps)
    loss.factor = math.inf
    take(steps, batch)
    assert equal(before, weights(steps))
    loss.factor = 1.0
    take(steps, batch)  # queued before the result of the last one is looked at
    assert all(value.isfinite().all() for value in weights(steps))
    with pytest.raises(ValueError, match=r"step 2 of epoch 1 has loss inf .*lower train.learning_rate"):
        take(steps, batch)


def test_step_that_is_not_finite_is_detected_before_saving():
    steps = steps_of(Spoilt(math.nan))
    take(steps, batch_of(2))
    with pytest.raises(ValueError, match=r"step 1 of epoch 1 has loss nan"):
        steps.finish()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_taken_on_a_condition(dtype):
    model = torch.nn.Linear(2, 2, dtype=dtype)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    before = model.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    step_if(torch.tensor(False), optimiser)
    assert torch.equal(model.weight, before)
    assert optimiser.state[model.weight]["step"] == 0
    step_if(torch.tensor(True), optimiser)
    assert not torch.equal(model.weight, before)
    assert optimiser.state[model.weight]["step"] == 1


def test_scaled_steps_give_the_weights_of_plain_ones():
    batch, plain = batch_of(2), steps_of()
    scaled = steps_of(scaler=torch.amp.GradScaler("cpu"))  # by powers of two: exact
    for steps in (plain, scaled):
        for _ in range(2):
            take(steps, batch)
        steps.finish()
    assert scaled.progress.loss == pytest.approx(plain.progress.loss, rel=1e-6)
    for value, expected in zip(weights(scaled), weights(plain), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_an_overflow_of_scaled_gradients_lowers_the_scale_and_leaves_the_weights():
    scaler, batch = torch.amp.GradScaler("cpu", init_scale=1024.0), batch_of(2)
    steps = steps_of(Overflowing(scaler, 256.0), scaler=scaler)
    scaler.scale(torch.zeros(()))  # makes the scale
    before = weights(steps)
    steps.take_and_wait(batch)
    steps.take_and_wait(batch)
    assert equal(before, weights(steps))
    assert (scaler.get_scale(), steps.progress.skipped) == (256.0, 2)
    steps.take_and_wait(batch)
    assert not equal(before, weights(steps))
    assert steps.progress.skipped == 0


def test_repeated_overflows_end_the_run():
    scaler, batch = torch.amp.GradScaler("cpu"), batch_of(1)
    steps = steps_of(Overflowing(scaler, -1.0), scaler=scaler)
    with pytest.raises(ValueError, match=r"norm (inf|nan) .*lower train.learning_rate"):  # noqa: PT012
        for _ in range(MOST_SKIPPED + 1):
            steps.take_and_wait(batch)
    assert steps.progress.steps == MOST_SKIPPED + 1


def test_infinite_loss_does_not_count_as_overflow():
    steps = steps_of(Spoilt(math.nan), scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"has loss nan"):
        steps.take_and_wait(batch_of(1))
