"""MCCFormers-S (Qiu et al., ICCV 2021): self-attention over the tokens of both dates.

Source: cvpaperchallenge/Describing-and-Localizing-Multiple-Change-with-Transformers, b088248.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models import mccformer_d
from models.fusion import CrossAttention
from models.image_pair import GridTokens, ImagePairCaptioner

DROPOUT = 0.1  # of the fusion; torch's default, which the released code leaves


@dataclass(frozen=True)
class Settings(mccformer_d.Settings):
    """Those of MCCFormers-D; `dropout` is the decoder's alone."""

    name: str = "mccformer_s"
    """The model: a file of models/."""


class Fusion(nn.Module):
    """A learned vector for each date, then encoder layers CA(x; x), which start with equal weights."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        self.tokens = GridTokens(channels, settings.grid, settings.width)
        self.dates = nn.Parameter(torch.randn(2, settings.width))
        layer = CrossAttention(settings.width, settings.heads, settings.feedforward, DROPOUT)
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(settings.fusion_layers))

    def forward(self, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> memory (B, 1, N, 2D), the two dates side by side.

        The released code joined the tokens of t0 with themselves until 2021-12-17; this is the repaired form.
        """
        a, b = self.tokens(features)
        x = torch.cat([a + self.dates[0], b + self.dates[1]], dim=1)  # (B, 2N, D)
        for layer in self.layers:
            x = layer(x, x)
        return torch.cat(x.chunk(2, dim=1), dim=-1).unsqueeze(1)


class MCCFormerS(ImagePairCaptioner):
    Settings, Fusion = Settings, Fusion


MODEL = MCCFormerS
