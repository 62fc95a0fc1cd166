"""SEN (Zhou et al., IEEE TGRS 2024): one trunk for the six channels of both images, gated by each image.

Source: mrazhou/SEN, 42b97b6.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.errors import UserError
from models.attention import Attention
from models.decoder import sinusoids
from models.encoder import Encoder
from models.fusion import CrossAttention
from models.image_pair import ImagePairCaptioner, ImagePairSettings
from models.trunks import RESNETS

GATE_REDUCTION = 16  # of the channels inside a gate


@dataclass(frozen=True)
class Settings(ImagePairSettings):
    """Those of the released code; `embedding_dropout` applies to the fusion's tokens, too."""

    name: str = "sen"
    """The model: a file of models/."""
    grid: PositiveInt = 8
    """Cells a side of the pooled feature map."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trunk not in RESNETS:
            raise UserError(
                f"model.trunk must be one of {', '.join(RESNETS)} for sen, whose trunk reads six channels: "
                f"got {self.trunk}"
            )
        if self.width % GATE_REDUCTION:
            raise UserError(f"model.width must be a multiple of {GATE_REDUCTION} for sen: got {self.width}")

    @property
    def memory_width(self) -> int:
        return self.width


class PairEncoder(Encoder):
    """An encoder of six channels with a 1x1 convolution to the fusion's width, which `fuse` applies."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, grid=settings.grid, input_channels=6)
        self.project = nn.Conv2d(self.channels, settings.width, 1)


class ChannelGate(nn.Module):
    """Weights in 0..1 of the channels, from the mean and the maximum over the grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // GATE_REDUCTION
        self.mlp = nn.Sequential(
            nn.Linear(width, inner, bias=False), nn.ReLU(), nn.Linear(inner, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, D) -> (B, 1, D)."""
        pooled = self.mlp(x.mean(dim=1)) + self.mlp(x.amax(dim=1))
        return torch.sigmoid(pooled).unsqueeze(1)


class Layer(nn.Module):
    """Cross-attention of each date's tokens to those of the pair, which take up the dates' difference."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, heads, dropout = settings.width, settings.heads, settings.dropout
        self.before = CrossAttention(width, heads, 2 * width, dropout)
        self.after = CrossAttention(width, heads, 2 * width, dropout)
        self.attention = Attention(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, a: Tensor, b: Tensor, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of t0, t1 and the pair, (B, N, D) each -> the same."""
        a, b = self.before(a, f), self.after(b, f)
        x = b - a
        return a, b, f + self.norm(x + self.dropout(self.attention(x, x)))


class Fusion(nn.Module):
    """Each image weighs the channels of the pair's map; layers then collect the differences of the dates."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        # the released convolution with stride 32 reads one pixel of each 32 x 32: a linear layer of pixels
        self.embed = nn.Linear(3, settings.width)
        self.gate_before, self.gate_after = ChannelGate(settings.width), ChannelGate(settings.width)
        positions = sinusoids(settings.grid**2, settings.width)
        self.register_buffer("positions", positions, persistent=False)
        self.position_dropout = nn.Dropout(settings.embedding_dropout)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.fusion_layers))

    def forward(self, maps: Tensor, pixels: Tensor) -> Tensor:
        """maps (B, D, h, w) of the pair, pixels (B, 6, h, w) of the images -> memory (B, 1, N, D)."""
        f = maps.flatten(2).transpose(1, 2)
        before, after = (self.embed(date) for date in pixels.flatten(2).transpose(1, 2).split(3, dim=-1))
        a, b = self.gate_before(before) * f, self.gate_after(after) * f
        a, b, f = (self.position_dropout(tokens + self.positions) for tokens in (a, b, f))
        for layer in self.layers:
            a, b, f = layer(a, b, f)
        return f.unsqueeze(1)


class SEN(ImagePairCaptioner):
    Settings = Settings

    def make_parts(self, settings: Settings) -> tuple[PairEncoder, Fusion]:
        return PairEncoder(settings), Fusion(settings)

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> (B, 1, C + 6, grid, grid): the trunk's output, then pixels of both
        images."""
        images = self.normalised(views[:, :2]).flatten(1, 2).unsqueeze(1)  # (B, 1, 6, H, W)
        pixels = F.interpolate(images.squeeze(1), size=(self.settings.grid, self.settings.grid))
        return torch.cat([self.encoder(images), pixels.unsqueeze(1)], dim=2)

    def fuse(self, features: Tensor) -> Tensor:
        maps, pixels = features.squeeze(1).split([self.encoder.channels, 6], dim=1)
        return self.fusion(self.encoder.project(maps), pixels)


MODEL = SEN
