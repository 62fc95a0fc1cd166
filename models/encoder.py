"""Siamese image encoder: a torchvision ResNet up to layer3, pooled to a square grid (paper, section on
encoders)."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from data.views import SEVERAL

STAGES = ("conv1", "layer1", "layer2", "layer3")
PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Trunk(nn.Sequential):
    """A torchvision ResNet up to layer3, called on single images.

    trained_from: the first stage that learns (`conv1` brings `bn1` along), or "nothing"; stages before it
    build no graph.
    batchnorm: "frozen" fixes the statistics and the affine parameters, and both dates go through in one call
    (paper, our reading); "live" updates the statistics in every stage, one call per date, t0 first
    (released).
    fixed_shapes: in training, views that are alike are computed each; see `models.compiling`.
    """

    fixed_shapes = False

    def __init__(self, *, name: str, trained_from: str, batchnorm: str) -> None:
        resnet = torchvision.models.get_model(name, weights=None)
        super().__init__(OrderedDict((part, getattr(resnet, part)) for part in PARTS))
        self.batchnorm = batchnorm
        following = (resnet.layer2, resnet.layer3, resnet.layer4)
        self.channels = tuple(layer[0].conv1.in_channels for layer in following)  # of layer1, layer2, layer3
        self.frozen_parts = len(PARTS) if trained_from == "nothing" else PARTS.index(trained_from)
        for part in list(self)[: self.frozen_parts]:
            part.requires_grad_(False)
        if batchnorm == "frozen":
            for norm in self._norms():
                norm.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "Trunk":
        super().train(mode)
        if self.batchnorm == "frozen":
            for norm in self._norms():
                norm.eval()
        return self

    def stages(self, images: Tensor) -> list[Tensor]:
        """What layer1, layer2 and layer3 make of images (B, 3, H, W): (B, C, h, w) of strides 4, 8 and 16."""
        found = []
        for place, (name, part) in enumerate(self.named_children()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and place >= self.frozen_parts):
                images = part(images)
            if name.startswith("layer"):
                found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> what layer3 makes of them, (B, C, h, w)."""
        return self.stages(images)[-1]

    def each_date(
        self, function: Callable[[Tensor], Tensor], dates: Tensor, plain: Tensor | None = None
    ) -> Tensor:
        """Apply a function that calls the trunk to each of T dates (B, T, 3, H, W) -> (B, T, ...).

        plain (B, T): `data.views.plain_colours` of the dates, on the CPU. Dates of the same plain colour,
        such as void maps, are computed once, unless batch statistics count each of them.
        """
        if self.training and self.batchnorm == "live":
            return torch.stack([function(_channels_last(date)) for date in dates.unbind(1)], dim=1)
        images = dates.flatten(0, 1)
        if plain is None or (self.training and self.fixed_shapes):
            plain = torch.full(dates.shape[:2], SEVERAL)
        kept, places = distinct(plain)
        if len(kept) == len(places):
            return function(_channels_last(images)).unflatten(0, dates.shape[:2])
        kept, places = (index.to(images.device, non_blocking=True) for index in (kept, places))
        found = function(_channels_last(images[kept]))
        # index_select adds up gradients in a fixed order on a CPU
        return found.index_select(0, places).unflatten(0, dates.shape[:2])


class Encoder(nn.Module):
    """One modality's trunk (see Trunk for the settings), called on both dates, and its pooling."""

    def __init__(self, *, trunk: str, grid: int, trained_from: str, batchnorm: str) -> None:
        super().__init__()
        self.trunk = Trunk(name=trunk, trained_from=trained_from, batchnorm=batchnorm)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.channels = self.trunk.channels[-1]

    def forward(self, dates: Tensor, plain: Tensor | None = None) -> Tensor:
        """Dates of one modality, both or one alone, (B, T, 3, H, W) -> (B, T, C, grid, grid).

        plain (B, T): as in `Trunk.each_date`.
        """
        return self.trunk.each_date(lambda images: self.pool(self.trunk(images)), dates, plain)


def distinct(plain: Tensor) -> tuple[Tensor, Tensor]:
    """Plain colours of n images -> the first place of each image that differs (m), and each image's place (n)
    among those.

    Images of the same plain colour are alike; images of several colours all count as different.
    """
    plain = plain.flatten()
    alike = (plain.unsqueeze(1) == plain) & (plain != SEVERAL)
    first = (alike | torch.eye(len(plain), dtype=torch.bool)).int().argmax(dim=1)
    return first.unique(return_inverse=True)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def pixel_statistics(normalisation: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of pixel values in 0..1, (3, 1, 1) each: those of "imagenet" or, for "none", 0 and
    1."""
    values = (IMAGENET_MEAN, IMAGENET_STD) if normalisation == "imagenet" else ((0.0,) * 3, (1.0,) * 3)
    mean, std = (torch.tensor(value, device="cpu").view(3, 1, 1) for value in values)
    return mean, std


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


def load_trunk(trunk: Trunk, state: dict[str, Tensor], source: str) -> None:
    """Copy an ImageNet state dict into a trunk; every parameter must be there, in its shape."""
    wanted = trunk.state_dict()
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
    trunk.load_state_dict(given, strict=False)
