"""Folding of BatchNorm layers into the convolutions before them, for inference."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.trunks import TimmTrunk


@torch.no_grad()
def fold_batchnorm(module: nn.Module) -> None:
    """Fold every BatchNorm2d that follows a Conv2d among its parent's children into that convolution.

    For inference only: outputs stay the same up to rounding, but the model cannot be trained further. The
    children must be in the order of computation, as in torchvision's ResNets and in nn.Sequential.
    """
    children = list(module.named_children())
    for (name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.set_submodule(name, fuse_conv_bn_eval(conv, norm))
            module.set_submodule(norm_name, nn.Identity())
    for _, child in children:
        if not isinstance(child, TimmTrunk):  # its modules may combine BatchNorm and activation
            fold_batchnorm(child)
