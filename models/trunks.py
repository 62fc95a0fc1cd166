"""Image trunks: ResNets up to layer3 or layer4 and ViT-B/32 of torchvision, any timm model (`timm:NAME`)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from data.errors import UserError
from data.views import SEVERAL
from models.state_dict import first_misfit

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
VIT = "vit_b_32"
TIMM = "timm:"  # prefix of a timm model's name
STEM = ("conv1", "bn1", "relu", "maxpool")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
PIXEL_STATISTICS = {  # mean and deviation of pixel values in 0..1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "levir_cc": ((0.394820, 0.390205, 0.333307), (0.199929, 0.190133, 0.175316)),  # of Chg2Cap's code
    "none": ((0.0,) * 3, (1.0,) * 3),
}


def training_only(default: Any) -> Any:
    """A setting that may differ between a checkpoint and a model that starts from its weights."""
    return field(default=default, metadata={"training_only": True})


@dataclass(frozen=True)
class TrunkSettings:
    """The settings of a model's trunk; the base of each model's `Settings`."""

    task: ClassVar[str]  # "captioning" or "detection"

    name: str = ""
    """The model: a file of models/."""
    trunk: str = "resnet101"
    """resnet18, 34, 50, 101, 152 or vit_b_32 of torchvision, or timm:NAME (needs `pip install timm`)."""
    last_layer: Literal["layer3", "layer4"] = "layer3"
    """Where the trunk ends: layer3 (stride 16) or layer4 (stride 32)."""
    weights: str = training_only("imagenet")
    """Initial weights of the trunk: imagenet (a download), a state-dict file, or none."""
    trained_from: Literal["conv1", "layer1", "layer2", "layer3", "layer4", "nothing"] = training_only(
        "layer2"
    )
    """First layer of the trunk that is trained; other trunks than ResNets: conv1 (all of it) or nothing."""
    trunk_batchnorm: Literal["frozen", "live"] = training_only("frozen")
    """BatchNorm of the trunk in training: frozen, or live as the authors' code has it."""
    normalisation: Literal["imagenet", "levir_cc", "none"] = "imagenet"
    """Of pixel values: the mean and deviation of ImageNet or LEVIR-CC, or none, values from 0 to 1."""

    def __post_init__(self) -> None:
        if self.trunk not in (*RESNETS, VIT) and not self.trunk.startswith(TIMM):
            raise UserError(
                f"model.trunk must be one of {', '.join(RESNETS)}, {VIT} or timm:NAME: got {self.trunk}"
            )
        if self.trunk == VIT and self.last_layer != "layer4":
            raise UserError(
                f"model.last_layer must be layer4 for {VIT}, whose only stride is 32: got {self.last_layer}"
            )
        if self.trained_from == "layer4" and self.last_layer == "layer3":
            raise UserError(
                "model.trained_from must be a layer of the trunk, got layer4 where model.last_layer is "
                "layer3: give --model.last_layer layer4"
            )
        if self.trunk not in RESNETS and self.trained_from not in ("conv1", "nothing"):
            kind = "a timm trunk" if self.trunk.startswith(TIMM) else self.trunk
            raise UserError(
                f"model.trained_from must be conv1 (the whole trunk learns) or nothing for {kind}: "
                f"got {self.trained_from}"
            )

    @property
    def trunk_is_fixed(self) -> bool:
        """Whether training leaves the trunk as it is, so that its features can be kept."""
        return self.trained_from == "nothing" and self.trunk_batchnorm == "frozen"

    @property
    def has_live_batchnorm(self) -> bool:
        """Whether training uses batch statistics, which depend on how a batch is divided."""
        return self.trunk_batchnorm == "live"


class Trunk(nn.Module):
    """A network that turns images into feature maps of growing stride.

    channels: of each stage. batchnorm: "frozen" fixes the statistics and the affine parameters, and both
    dates are encoded in one call (our reading of the paper); "live" updates the statistics, one call per
    date, t0 first (the authors' code). fixed_shapes: in training, equal images are encoded each, so that
    batches have one size (torch.compile).
    """

    channels: tuple[int, ...]
    fixed_shapes = False

    def __init__(self, *, batchnorm: str) -> None:
        super().__init__()
        self.batchnorm = batchnorm

    def stages(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W) -> feature maps (B, C, h, w) of strides 4, 8, 16 and, up to layer4, 32.

        A ViT has stride 32 alone.
        """
        raise NotImplementedError

    def load_pretrained(self, weights: str) -> None:
        """Load the weights that `model.weights` names; UserError where they are unavailable or do not fit."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> the last stage's feature map (B, C, h, w)."""
        return self.stages(images)[-1]

    def freeze_batchnorm(self) -> None:
        """Fix the affine parameters of frozen BatchNorm; `train` keeps its statistics fixed."""
        if self.batchnorm == "frozen":
            for norm in self._norms():
                norm.requires_grad_(False)

    def train(self, mode: bool = True) -> "Trunk":
        super().train(mode)
        if self.batchnorm == "frozen":
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    def each_date(
        self, function: Callable[[Tensor], Tensor], dates: Tensor, plain: Tensor | None = None
    ) -> Tensor:
        """Apply a function that calls the trunk to each of T dates (B, T, 3, H, W) -> (B, T, ...).

        plain (B, T): `data.views.plain_colours` of the dates, on the CPU. Images of one plain colour, such as
        void maps, are encoded once per batch, except with live BatchNorm, whose statistics depend on their
        number.
        """
        if self.training and self.batchnorm == "live":
            return torch.stack([function(_channels_last(date)) for date in dates.unbind(1)], dim=1)
        images = dates.flatten(0, 1)
        if plain is None or (self.training and self.fixed_shapes):
            plain = torch.full(dates.shape[:2], SEVERAL)
        kept, sources = distinct(plain)
        if len(kept) == len(sources):
            return function(_channels_last(images)).unflatten(0, dates.shape[:2])
        kept, sources = (index.to(images.device, non_blocking=True) for index in (kept, sources))
        features = function(_channels_last(images[kept]))
        # index_select adds up gradients in a fixed order on a CPU
        return features.index_select(0, sources).unflatten(0, dates.shape[:2])


class ResNetTrunk(Trunk):
    """A torchvision ResNet up to `last_layer`.

    trained_from: the first layer that is trained (conv1 includes bn1), or "nothing"; layers before it are
    computed without gradients. input_channels: a multiple of 3, for several images at once.
    """

    def __init__(
        self, *, name: str, last_layer: str, trained_from: str, batchnorm: str, input_channels: int = 3
    ) -> None:
        super().__init__(batchnorm=batchnorm)
        self.name = name
        resnet = torchvision.models.get_model(name, weights=None)
        if input_channels != 3:
            resnet.conv1 = nn.Conv2d(input_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        layers = LAYERS[: LAYERS.index(last_layer) + 1]
        parts = (*STEM, *layers)
        for part in parts:
            self.add_module(part, getattr(resnet, part))
        self.channels = tuple(_out_channels(getattr(resnet, layer)) for layer in layers)
        self.frozen_parts = parts.index(trained_from) if trained_from in parts else len(parts)
        for part in parts[: self.frozen_parts]:
            self.get_submodule(part).requires_grad_(False)
        self.freeze_batchnorm()

    def stages(self, images: Tensor) -> list[Tensor]:
        outputs = []
        for number, (name, part) in enumerate(self.named_children()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= self.frozen_parts):
                images = part(images)
            if name in LAYERS:
                outputs.append(images)
        return outputs

    def load_pretrained(self, weights: str) -> None:
        if weights != "none":
            load_trunk(self, trunk_weights(self.name, weights), weights)


class ViTTrunk(Trunk):
    """torchvision's ViT-B/32 on images resized to 224 x 224: the tokens of the 7 x 7 patches, class token
    left out."""

    channels = (768,)

    def __init__(self, *, trained_from: str, batchnorm: str) -> None:
        super().__init__(batchnorm=batchnorm)
        self.network = torchvision.models.vit_b_32(weights=None)
        self.network.heads = nn.Identity()
        self.network.requires_grad_(trained_from != "nothing")

    def stages(self, images: Tensor) -> list[Tensor]:
        images = nn.functional.interpolate(images, size=(224, 224), mode="bilinear")
        patches = self.network.conv_proj(images).flatten(2).transpose(1, 2)  # (B, 49, C)
        first = self.network.class_token.expand(len(images), -1, -1)
        tokens = self.network.encoder(torch.cat([first, patches], dim=1))[:, 1:]
        return [tokens.transpose(1, 2).unflatten(2, (7, 7))]

    def load_pretrained(self, weights: str) -> None:
        if weights == "none":
            return
        state = trunk_weights(VIT, weights)
        given = {name: value for name, value in state.items() if not name.startswith("heads.")}
        if reason := first_misfit(self.network.state_dict(), given):
            raise UserError(f"model.weights: {weights} {reason}: model.trunk must name its network")
        self.network.load_state_dict(given)


class TimmTrunk(Trunk):
    """A timm model's feature maps of strides 4 to 16, or to 32 with last_layer layer4."""

    def __init__(self, *, name: str, last_layer: str, trained_from: str, batchnorm: str) -> None:
        super().__init__(batchnorm=batchnorm)
        self.name, self.last_layer = name, last_layer
        self.network = self._create()
        self.channels = tuple(self.network.feature_info.channels())
        self.network.requires_grad_(trained_from != "nothing")
        self.freeze_batchnorm()

    def _create(self, **options: Any) -> nn.Module:
        """The network, whose stages are those of the strides wanted. options: of `timm.create_model`."""
        network = self._timm_model(features_only=True)
        strides, last = network.feature_info.reduction(), 16 if self.last_layer == "layer3" else 32
        indices = [index for index, stride in enumerate(strides) if 4 <= stride <= last]
        if not indices:
            remedy = "model.last_layer layer4" if last == 16 and 32 in strides else "another model.trunk"
            raise UserError(
                f"model.trunk timm:{self.name} must have a feature map of stride 4 to {last}, its strides "
                f"are {', '.join(map(str, strides))}: give {remedy}"
            )
        return self._timm_model(features_only=True, out_indices=indices, **options)

    def _timm_model(self, **options: Any) -> nn.Module:
        try:
            import timm
        except ImportError:
            raise UserError(f"model.trunk timm:{self.name} needs timm: run pip install timm") from None
        try:
            return timm.create_model(self.name, **options)
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"model.weights: imagenet cannot be downloaded for timm:{self.name} ({reason}): give a "
                "state-dict file of timm with --model.weights FILE, or --model.weights none"
            ) from None
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"model.trunk timm:{self.name} cannot be used ({reason}): name a timm model with feature "
                "maps, such as timm:resnet50, or give --model.weights none where it has no weights"
            ) from None

    def stages(self, images: Tensor) -> list[Tensor]:
        return self.network(images)

    def load_pretrained(self, weights: str) -> None:
        if weights == "none":
            return
        options = {"pretrained": True}
        if weights != "imagenet":
            options["pretrained_cfg_overlay"] = {"state_dict": self._read_weights(weights)}
        self.network.load_state_dict(self._create(**options).state_dict())

    def _read_weights(self, path: str) -> dict[str, Tensor]:
        """The state dict of the whole timm model; UserError where it is that of another one."""
        state = read_state_dict(path)
        try:
            self._timm_model().load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).partition("\n")[2].strip().partition("\n")[0]
            raise UserError(
                f"model.weights: {path} does not fit ({reason}): give the state dict of "
                f"timm.create_model({self.name!r})"
            ) from None
        return state


def make_trunk(settings: TrunkSettings, input_channels: int = 3) -> Trunk:
    """The trunk that a model's settings name, with random weights; more than 3 channels for ResNets alone."""
    options = {"trained_from": settings.trained_from, "batchnorm": settings.trunk_batchnorm}
    if settings.trunk == VIT:
        return ViTTrunk(**options)
    options |= {"name": settings.trunk.removeprefix(TIMM), "last_layer": settings.last_layer}
    if settings.trunk.startswith(TIMM):
        return TimmTrunk(**options)
    return ResNetTrunk(**options, input_channels=input_channels)


def pixel_statistics(normalisation: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of pixel values in 0..1, (3, 1, 1) each, by `model.normalisation`."""
    # the device is named, as for all constants: a checkpoint's model is built on "meta", without values
    mean, std = (torch.tensor(value, device="cpu").view(3, 1, 1) for value in PIXEL_STATISTICS[normalisation])
    return mean, std


def distinct(plain: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct images among n, and the index of each image among those.

    plain: the images' plain colours (`data.views.plain_colours`), n in all. Images of the same plain colour
    are equal; images of several colours count as different.
    Returns the first of each set of equal images (m), and for each image its index among those (n).
    """
    plain = plain.flatten()
    alike = (plain.unsqueeze(1) == plain) & (plain != SEVERAL)
    first = (alike | torch.eye(len(plain), dtype=torch.bool)).int().argmax(dim=1)
    return first.unique(return_inverse=True)


def trunk_weights(trunk: str, weights: str) -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet or ViT, float32.

    weights: "imagenet" (torchvision's IMAGENET1K_V1, which the authors trained from; a download) or a
    state-dict file; layer4, fc and heads may be missing there. Raises UserError where a download is
    impossible, FileNotFoundError where the file is absent.
    """
    if weights == "imagenet":
        try:
            state = torchvision.models.get_model_weights(trunk).IMAGENET1K_V1.get_state_dict(progress=True)
        except (URLError, OSError) as error:
            raise UserError(
                f"model.weights: imagenet cannot be downloaded ({error}): give a local state-dict file with "
                f"--model.weights FILE, or --model.weights none to start from random weights"
            ) from None
    else:
        state = read_state_dict(weights)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def read_state_dict(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"model.weights: {path} not found: give a state-dict file, imagenet or none")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a foreign or damaged file makes the unpickler fail in many ways
        state = None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"model.weights: {path} is not a state-dict file: give one, imagenet or none")
    return state


def load_trunk(trunk: ResNetTrunk, state: dict[str, Tensor], source: str) -> None:
    """Copy the state dict of a ResNet into a trunk; layers after the trunk's last one are ignored.

    A trunk of several images has the filters of one image for each.
    """
    later = tuple(f"{part}." for part in (*LAYERS, "fc") if not hasattr(trunk, part))
    given = {name: value for name, value in state.items() if not name.startswith(later)}
    expected = trunk.state_dict()
    filters = given.get("conv1.weight")
    if filters is not None and filters.dim() == 4 and filters.shape[1] == 3:
        given["conv1.weight"] = filters.repeat(1, trunk.conv1.in_channels // 3, 1, 1)
    for name in expected.keys() - given.keys():
        if name.endswith("num_batches_tracked"):  # missing in old files
            given[name] = expected[name]
    if reason := first_misfit(expected, given):
        raise UserError(f"model.weights: {source} {reason}: model.trunk must name its network")
    trunk.load_state_dict(given)


def _out_channels(layer: nn.Sequential) -> int:
    """Of a ResNet's layer: 4 times the width in bottleneck blocks, the width in basic blocks."""
    block = layer[-1]
    return (block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
