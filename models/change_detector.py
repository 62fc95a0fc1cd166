"""Semantic change detection: where two images differ, and the land-cover classes of both dates there.

The design follows SSCD-l and Bi-SRNet (Ding et al., "Bi-Temporal Semantic Reasoning for the Semantic Change
Detection in HR Remote Sensing Images", IEEE TGRS 2022): a trunk and a semantic head that both dates share, a
change head on the features of both dates, and a loss over all of them. A feature pyramid combines the stages
of the trunk (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.palette import SECOND, Palette
from data.views import plain_colours
from models.trunks import TrunkSettings, make_trunk, pixel_statistics

NORM_GROUPS = 8
BALANCE = 0.25


class Detection(NamedTuple):
    """The output of the detector for B pairs of images.

    change (B, H, W): logits that a pixel has changed.
    classes (B, 2, K + 1, H, W): logits of void and the K classes of the palette, for changed pixels. For
    these, void means that the map has no class at that date (LEVIR-MCI has no classes "before").
    """

    change: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Settings(TrunkSettings):
    """Trunk and width of the change detector."""

    task: ClassVar[str] = "detection"

    name: str = "change_detector"
    """The model: a file of models/."""
    width: PositiveInt = 512
    """Channels of the feature pyramid and the heads."""


class ChangeDetector(nn.Module):
    """Predicts a Detection from the images rgb t0 and rgb t1 of a pair, which may have any size.

    vocabulary_size: ignored, as a detector has no words. palette: of the maps.
    """

    Settings = Settings
    views = ("rgb_a", "rgb_b")
    OUTPUT = "decoder.semantic_head.1"  # the layer with a row for void and each class

    def __init__(self, settings: Settings, vocabulary_size: int = 0, palette: Palette = SECOND) -> None:
        super().__init__()
        self.settings, self.palette = settings, palette
        self.trunk = make_trunk(settings)
        self.decoder = ChangeDecoder(
            channels=self.trunk.channels, width=settings.width, classes=len(palette.labels)
        )
        mean, std = pixel_statistics(settings.normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def parts(self) -> dict[str, nn.Module]:
        """The modules with a parameter group each, as in `Captioner.parts`."""
        return dict(self.named_children())

    def forward(self, views: Tensor, plain: Tensor | None = None) -> Detection:
        """views (B, 2 or 4, 3, H, W) uint8, images first; plain, same length: see `Captioner.features`."""
        plain = (plain_colours(views[:, :2]) if plain is None else plain)[:, :2]
        images = (views[:, :2].to(self.mean.dtype) / 255 - self.mean) / self.std
        features = self.trunk.each_date(
            lambda date: self.decoder.pyramid(self.trunk.stages(date)), images, plain
        )
        return self.decoder(features, views.shape[-2:])

    @torch.inference_mode()
    def classify(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 2 or 4, 3, H, W) uint8 -> class indices (B, 2, H, W), 0 (void) where unchanged."""
        detection = self(views, plain)
        return detection.classes.argmax(2) * (detection.change > 0).unsqueeze(1)

    def detect(self, views: Tensor) -> Tensor:
        """views (B, 2 or 4, 3, H, W) uint8 -> maps (B, 2, 3, H, W) uint8 on the CPU.

        Maps have the base colours of the palette and are black where nothing has changed.
        """
        return torch.from_numpy(self.palette.paint(self.classify(views).cpu().numpy()))


class ChangeDecoder(nn.Module):
    """A feature pyramid of each date, and heads at stride 4 whose logits are enlarged bilinearly.

    channels: of the stages of the trunk. width: channels of pyramid and heads. classes: how many, with
    void.
    """

    def __init__(self, *, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels, width)
        self.semantic_head = nn.Sequential(block(width, width), nn.Conv2d(width, classes, 1))
        self.change_head = nn.Sequential(block(3 * width, width), block(width, width), nn.Conv2d(width, 1, 1))

    def forward(self, features: Tensor, size: tuple[int, int]) -> Detection:
        """Both dates' features (B, 2, D, h, w) -> logits of `size` = (H, W)."""
        before, after = features.unbind(1)
        both = torch.cat([before, after, (after - before).abs()], dim=1)
        change = enlarge(self.change_head(both), size)
        classes = enlarge(self.semantic_head(features.flatten(0, 1)), size)
        return Detection(change.squeeze(1), classes.unflatten(0, (-1, 2)))


class Pyramid(nn.Module):
    """Adds up stages of strides 4, 8 and 16, from coarse to fine, into a feature map of stride 4."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.smooth = block(width, width)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """stages, finest first, (B, C, h, w) each -> (B, D, h, w) as large as the finest."""
        *finer, merged = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        for detail in reversed(finer):
            merged = detail + enlarge(merged, detail.shape[-2:])
        return self.smooth(merged)


def block(channels: int, width: int) -> nn.Sequential:
    """3 x 3 convolution, GroupNorm, ReLU. Without batch statistics, pairs do not affect each other."""
    norm = nn.GroupNorm(math.gcd(width, NORM_GROUPS), width)
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), norm, nn.ReLU(inplace=True))


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def detection_loss(detection: Detection, truth: Tensor) -> Tensor:
    """The loss of Bi-SRNet for each pair (B,); truth (B, 2, H, W): the class indices of the maps.

        L = L_change + (L_t0 + L_t1) / 2 + L_consistency

    A pixel has changed if the map of either date is not void.
    L_change: binary cross-entropy; its mean over the changed pixels has weight BALANCE, its mean over the
    unchanged pixels weight 1 - BALANCE.
    L_t: cross-entropy of the classes of date t, the mean over the changed pixels. Void is one of the classes,
    as some data sets have no class at one date.
    L_consistency: with p_t the class probabilities of date t, 1 - cos(p_t0, p_t1) at unchanged pixels and
    cos(p_t0, p_t1) at changed pixels, the mean over all.
    Bi-SRNet averages over a batch; averages over each pair do not depend on how a batch is divided.
    """
    changed = (truth > 0).any(1)
    logits, classes = detection.change.float(), detection.classes.float()
    change = F.binary_cross_entropy_with_logits(logits, changed.float(), reduction="none")
    semantic = F.cross_entropy(classes.flatten(0, 1), truth.flatten(0, 1), reduction="none")  # (2B, H, W)
    similarity = F.cosine_similarity(*classes.softmax(2).unbind(1), dim=1)
    inconsistency = torch.where(changed, similarity, 1 - similarity)
    return (
        BALANCE * mean_over(change, changed)
        + (1 - BALANCE) * mean_over(change, ~changed)
        + mean_over(semantic.unflatten(0, (-1, 2)).mean(1), changed)
        + inconsistency.mean((1, 2))
    )


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of each pair over the pixels of a mask, 0 if it is empty: (B, H, W) twice -> (B,)."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


MODEL = ChangeDetector
