"""BatchNorm over the samples of all processes, on CPUs and GPUs alike.

nn.SyncBatchNorm does the same on GPUs only, and makes the CPU wait for the GPU at each call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLES_AND_PIXELS = (0, 2, 3)  # the dimensions of (B, C, H, W) over which statistics are taken


class SharedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose batch in training is the batches of all processes together.

    Every process must call it equally often, forward and backward. The running statistics stay equal in all
    processes. counts: whether this process's samples enter the statistics, see `left_out_of_statistics`.
    """

    counts = True

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "SharedBatchNorm2d":
        """A module that holds the parameters and buffers of `norm`."""
        shared = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum, device="meta")
        shared.weight, shared.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(shared, name, buffer)
        return shared.train(norm.training)

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(images)
        normalised, mean, variance, count = _Normalise.apply(
            images, self.weight, self.bias, self.eps, self.counts
        )
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return normalised


class _Normalise(torch.autograd.Function):
    """Normalisation by the mean and the variance of all processes' samples."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, eps: float, counts: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the normalised images, and the pixels' mean (C), variance (C) and count ()."""
        values = images.to(weight.dtype)
        variance, mean = torch.var_mean(values, SAMPLES_AND_PIXELS, correction=0)
        count = mean.new_full((1,), counts * images.numel() // images.shape[1])
        statistics = torch.cat([mean, variance, count])
        each = statistics.new_empty(dist.get_world_size(), len(statistics))  # (processes, 2C + 1)
        dist.all_gather(list(each.unbind()), statistics)
        means, variances, shares = each.split([len(mean), len(mean), 1], dim=1)
        total = shares.sum()
        mean = (shares * means).sum(0) / total
        variance = (shares * (variances + (means - mean).square())).sum(0) / total
        ctx.save_for_backward(images, weight, mean, variance, total)
        ctx.eps, ctx.counts = eps, counts
        ctx.mark_non_differentiable(mean, variance, total)
        return F.batch_norm(images, mean, variance, weight, bias, eps=eps), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        images, weight, mean, variance, total = ctx.saved_tensors
        gradient, dtype = gradient.to(weight.dtype), gradient.dtype
        inverse = (variance + ctx.eps).rsqrt()
        normalised = _per_channel(inverse) * (images.to(weight.dtype) - _per_channel(mean))
        sums = torch.stack(
            [gradient.sum(SAMPLES_AND_PIXELS), (gradient * normalised).sum(SAMPLES_AND_PIXELS)]
        )
        bias_gradient, weight_gradient = sums.clone()
        dist.all_reduce(sums)
        if ctx.counts:  # samples that do not count have not moved the statistics
            of_mean, of_variance = (_per_channel(value) for value in sums / total)
            gradient = gradient - of_mean - normalised * of_variance
        gradient = (_per_channel(weight * inverse) * gradient).to(dtype)
        return gradient, weight_gradient, bias_gradient, None, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def share_batchnorm(model: nn.Module) -> None:
    """Replace each nn.BatchNorm2d by a SharedBatchNorm2d with the same parameters, buffers and names."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            model.set_submodule(name, SharedBatchNorm2d.of(module))


@contextmanager
def left_out_of_statistics(model: nn.Module) -> Iterator[None]:
    """The samples that this process gives the model meanwhile do not enter shared statistics."""
    norms = [module for module in model.modules() if isinstance(module, SharedBatchNorm2d)]
    for norm in norms:
        norm.counts = False
    try:
        yield
    finally:
        for norm in norms:
            norm.counts = True
