"""RSICCformer (Liu et al., IEEE TGRS 2022): both dates attend to their difference; bitemporal fusion.

Source: Chen-Yang-Liu/RSICC, d1505e5.
"""

from dataclasses import dataclass

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from models.fusion import ConvolutionalBlock, CrossAttention, xavier_uniform
from models.image_pair import GridTokens, ImagePairCaptioner, ImagePairSettings


@dataclass(frozen=True)
class Settings(ImagePairSettings):
    """Those of the released code."""

    name: str = "rsiccformer"
    """The model: a file of models/."""
    feedforward: PositiveInt = 2048
    """Inner width of the fusion's feed-forward networks."""
    fusion_layers: PositiveInt = 3
    """Layers of the fusion."""

    @property
    def has_live_batchnorm(self) -> bool:
        return True  # in the fusion's blocks


class Fusion(nn.Module):
    """Chained layers a <- CA(a; d), b <- CA(b; d) with d = b - a, and the bitemporal fusion of all layers."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        self.tokens = GridTokens(channels, settings.grid, settings.width)
        self.layers = nn.ModuleList(
            CrossAttention(settings.width, settings.heads, settings.feedforward, settings.dropout)
            for _ in range(settings.fusion_layers)
        )
        self.blocks = nn.ModuleList(
            ConvolutionalBlock(2 * settings.width, "live") for _ in range(settings.fusion_layers)
        )
        xavier_uniform(self)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> memory (B, 1, N, 2D), the output of the last block."""
        a, b = self.tokens(features)
        fused = 0.0
        for layer, block in zip(self.layers, self.blocks, strict=True):
            difference = b - a  # as key and value, although the released class is named diff_as_Q
            a, b = layer(a, difference), layer(b, difference)
            z = torch.cat([a, b], dim=-1).transpose(1, 2).unflatten(2, features.shape[-2:])
            fused = block(fused + z)  # (B, 2D, h, w)
        return fused.flatten(2).transpose(1, 2).unsqueeze(1)


class RSICCformer(ImagePairCaptioner):
    Settings, Fusion = Settings, Fusion


MODEL = RSICCformer
