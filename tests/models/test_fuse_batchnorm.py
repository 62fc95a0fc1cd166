"""Convolutions with fused BatchNorm compute the same values."""

import pytest
import torch
from torch import nn

from models.fuse_batchnorm import fold_batchnorm
from models.fusion import ConvolutionalBlock
from models.trunks import TrunkSettings, make_trunk


def trained(module: nn.Module) -> nn.Module:
    """A module as after training, with random statistics and scales in every BatchNorm."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                values.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_folded_trunk_computes_the_same(name):
    torch.manual_seed(0)
    trunk = trained(make_trunk(TrunkSettings(trunk=name, trained_from="nothing")))
    images = torch.randn(2, 3, 64, 64)
    expected = trunk(images)
    fold_batchnorm(trunk)
    torch.testing.assert_close(trunk(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


def test_a_folded_convolutional_block_computes_the_same():
    torch.manual_seed(0)
    block = trained(ConvolutionalBlock(16, "live"))
    u = torch.randn(2, 16, 5, 5)
    expected = block(u)
    fold_batchnorm(block)
    torch.testing.assert_close(block(u), expected, rtol=1e-4, atol=1e-5)


def test_other_norms_are_not_folded():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.BatchNorm2d(4))
    fold_batchnorm(model)
    assert [type(module).__name__ for module in model] == ["Conv2d", "GroupNorm", "BatchNorm2d"]
