"""BatchNorm in eval mode is a scale and a shift, which the convolution before it can hold in its weights."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.trunks import TimmTrunk


@torch.no_grad()
def fold_batchnorm(module: nn.Module) -> None:
    """Put every BatchNorm2d that follows a Conv2d among its parent's children into that convolution.

    For inference only: what is computed stays the same to rounding, what could be learnt does not. The
    children must stand in the order of the computation, as in torchvision's ResNets and in Sequentials.
    """
    children = list(module.named_children())
    for (name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.set_submodule(name, fuse_conv_bn_eval(conv, norm))
            module.set_submodule(norm_name, nn.Identity())
    for _, child in children:
        if not isinstance(child, TimmTrunk):  # its modules may combine BatchNorm and activation
            fold_batchnorm(child)
