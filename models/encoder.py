"""Siamese image encoder: a torchvision ResNet up to layer3, pooled to a square grid (paper, section on
encoders)."""

from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

STAGES = ("conv1", "layer1", "layer2", "layer3")
PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")


class Encoder(nn.Module):
    """One modality's trunk, called on both dates.

    trained_from: the first stage that learns (`conv1` brings `bn1` along), or "nothing"; stages before it
    build no graph.
    batchnorm: "frozen" fixes the statistics and the affine parameters, and both dates go through in one call
    (paper, our reading); "live" updates the statistics in every stage, one call per date, t0 first
    (released).
    """

    def __init__(self, *, trunk: str, grid: int, trained_from: str, batchnorm: str) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(trunk, weights=None)
        self.trunk = nn.Sequential(OrderedDict((part, getattr(resnet, part)) for part in PARTS))
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.batchnorm = batchnorm
        self.channels = resnet.layer4[0].conv1.in_channels
        self.frozen_parts = len(PARTS) if trained_from == "nothing" else PARTS.index(trained_from)
        self.trunk[: self.frozen_parts].requires_grad_(False)
        if batchnorm == "frozen":
            for norm in self._norms():
                norm.requires_grad_(False)

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.trunk.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.batchnorm == "frozen":
            for norm in self._norms():
                norm.eval()
        return self

    def _features(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            images = self.trunk[: self.frozen_parts](images)
        return self.pool(self.trunk[self.frozen_parts :](images))

    def forward(self, dates: Tensor) -> Tensor:
        """Both dates of one modality, (B, 2, 3, H, W) -> (B, 2, C, grid, grid)."""
        if self.training and self.batchnorm == "live":
            return torch.stack([self._features(date) for date in dates.unbind(1)], dim=1)
        return self._features(dates.flatten(0, 1)).unflatten(0, (-1, 2))


def trunk_weights(trunk: str, weights: str) -> dict[str, Tensor]:
    """ImageNet state dict of `trunk`, names as torchvision's, float32.

    weights: "imagenet" (torchvision's IMAGENET1K_V1, which the released code trained from; a download) or a
    local state-dict file; layer4 and fc may be missing there. Raises ValueError where a download is
    impossible or the file is another network's, FileNotFoundError where it is absent.
    """
    if weights == "imagenet":
        try:
            state = torchvision.models.get_model_weights(trunk).IMAGENET1K_V1.get_state_dict(progress=True)
        except (URLError, OSError) as error:
            raise ValueError(
                f"model.weights: imagenet cannot be downloaded ({error}): give a local state-dict file with "
                f"--model.weights FILE, or --model.weights none to start from random weights"
            ) from None
    else:
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f"model.weights: {weights} not found: give a state-dict file, imagenet or none"
            )
        state = torch.load(weights, map_location="cpu", weights_only=True)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def load_trunk(encoder: Encoder, state: dict[str, Tensor], source: str) -> None:
    """Copy an ImageNet state dict into an encoder's trunk; every parameter must be there, in its shape."""
    wanted = encoder.trunk.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(("layer4.", "fc."))}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - given.keys() - counters)
    surplus = sorted(given.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape]
    for rule, names in (
        ("lacks", missing),
        ("has besides", surplus),
        ("has in another shape", sorted(shapes)),
    ):
        if names:
            raise ValueError(
                f"model.weights: {source} {rule} {names[0]} ({len(names)} in all): "
                "model.trunk must name its network"
            )
    encoder.trunk.load_state_dict(given, strict=False)
