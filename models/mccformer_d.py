"""MCCFormers-D (Qiu et al., ICCV 2021): each date attends to the other one.

Source: cvpaperchallenge/Describing-and-Localizing-Multiple-Change-with-Transformers, b088248.
"""

from dataclasses import dataclass

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from models.fusion import CrossAttention, xavier_uniform
from models.image_pair import GridTokens, ImagePairCaptioner, ImagePairSettings


@dataclass(frozen=True)
class Settings(ImagePairSettings):
    """Those of the released code."""

    name: str = "mccformer_d"
    """The model: a file of models/."""
    heads: PositiveInt = 4
    """Attention heads."""
    feedforward: PositiveInt = 2048
    """Inner width of the fusion's feed-forward networks."""
    decoder_layers: PositiveInt = 2
    """Layers of the decoder."""


class Fusion(nn.Module):
    """Chained layers (a, b) <- (CA(a; b), CA(b; a)), one cross-attention for both directions of a layer."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        self.tokens = GridTokens(channels, settings.grid, settings.width)
        self.layers = nn.ModuleList(
            CrossAttention(settings.width, settings.heads, settings.feedforward, settings.dropout)
            for _ in range(settings.fusion_layers)
        )
        xavier_uniform(self)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> memory (B, 1, N, 2D), the two dates side by side."""
        a, b = self.tokens(features)
        for layer in self.layers:
            a, b = layer(a, b), layer(b, a)
        return torch.cat([a, b], dim=-1).unsqueeze(1)


class MCCFormerD(ImagePairCaptioner):
    Settings, Fusion = Settings, Fusion


MODEL = MCCFormerD
