"""Adam over the model's parts, the schedules of its rates, and gradient clamping (the training recipe)."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from configs import TrainConfig
from data.errors import UserError


def make_optimiser(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Adam with a group for each part that learns; they share a rate until the decoder's decays."""
    groups = []
    for part, module in model.parts().items():
        learning = [p for p in module.parameters() if p.requires_grad]
        if learning:
            groups.append({"part": part, "params": learning})
    return Adam(groups, lr=config.learning_rate, fused=True)


def load_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Inverse of `optimiser.state_dict()`. UserError if groups, settings or shapes differ."""
    settings = [set(group) for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, expected in zip(optimiser.param_groups, settings, strict=True):
        if missing := sorted(expected - set(group)):
            raise UserError(f"the optimiser's group {group.get('part')} lacks {missing[0]}")
        for parameter in group["params"]:
            for name, value in optimiser.state[parameter].items():
                if value.shape not in ((), parameter.shape):
                    raise UserError(
                        f"the optimiser's {name} has shape {tuple(value.shape)} for a parameter of shape "
                        f"{tuple(parameter.shape)}"
                    )


def make_scheduler(optimiser: Optimizer, config: TrainConfig, steps: int, done: int) -> OneCycleLR | None:
    """`one_cycle`: a rate for each step of all epochs (`steps` in each, `done` of them taken so far).

    The other schedules have none: see decay_rates.
    """
    if config.schedule != "one_cycle":
        return None
    total = config.epochs * steps
    rate = config.learning_rate
    return OneCycleLR(optimiser, max_lr=rate, total_steps=total, cycle_momentum=False, last_epoch=done - 1)


def decay_rates(optimiser: Optimizer, config: TrainConfig, *, epochs: int, stale: int) -> None:
    """Lower the learning rates before the first step of an epoch.

    epochs: complete ones. stale: the last of them in a row without a better score.
    `plateau`: the decoder's rate alone falls after each `decay_patience` stale epochs.
    `step`: all rates fall after each `decay_patience` epochs.
    """
    counted = {"plateau": stale, "step": epochs, "one_cycle": 0}[config.schedule]
    if counted and counted % config.decay_patience == 0:
        for group in optimiser.param_groups:
            if config.schedule == "step" or group["part"] == "decoder":
                group["lr"] *= config.decay


def clip_gradients(optimiser: Optimizer, config: TrainConfig) -> None:
    """Clamp gradient values to +-clip_value (0: no clamping); the authors' code leaves the fusion out."""
    for group in optimiser.param_groups:
        if config.clip_value and (group["part"] != "fusion" or config.clip_fusion):
            nn.utils.clip_grad_value_(group["params"], config.clip_value)


def step_if(good: Tensor, optimiser: Optimizer) -> None:
    """Take a step where `good` (), a bool on the parameters' device, is true; otherwise change nothing.

    A fused optimiser decides on the device, so that the CPU does not wait for a GPU.
    """
    optimiser.found_inf = (~good).float()  # what GradScaler sets
    try:
        optimiser.step()
    finally:
        del optimiser.found_inf
