"""PSNet (Liu et al., IGARSS 2023): progressive difference perception and scale-aware reinforcement.

Source: Chen-Yang-Liu/PSNet, dcea17f.
"""

from dataclasses import dataclass

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.errors import UserError
from models.attention import Attention, FeedForward
from models.fusion import CrossAttention, xavier_uniform
from models.image_pair import GridTokens, ImagePairCaptioner, ImagePairSettings

# dropout in the released code, which ignores its option --dropout
PERCEPTION_DROPOUT, REINFORCEMENT_DROPOUT = 0.1, 0.8


@dataclass(frozen=True)
class Settings(ImagePairSettings):
    """Those of the released code; `dropout` is the decoder's alone."""

    name: str = "psnet"
    """The model: a file of models/."""
    grid: PositiveInt = 7
    """Cells a side of the pooled feature map."""
    feedforward: PositiveInt = 2048
    """Inner width of the feed-forward networks of the difference perception."""
    fusion_layers: PositiveInt = 3
    """Layers of the fusion."""
    decoder_layers: PositiveInt = 3
    """Layers of the decoder; each reads the memory of one layer of the fusion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 < self.fusion_layers == self.decoder_layers:
            raise UserError(
                "model.fusion_layers must be 2 or more and equal model.decoder_layers: "
                f"got {self.fusion_layers} and {self.decoder_layers}"
            )


class Reinforcement(nn.Module):
    """A level attends to the other levels."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = 2 * settings.width
        self.norm = nn.LayerNorm(width)  # of the level and of the others
        self.attention = Attention(width, settings.heads, REINFORCEMENT_DROPOUT)
        self.attended_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, 2 * settings.feedforward, REINFORCEMENT_DROPOUT)
        self.dropout = nn.Dropout(REINFORCEMENT_DROPOUT)

    def forward(self, level: Tensor, others: Tensor) -> Tensor:
        """level (B, N, 2D), the tokens of the others (B, M, 2D) -> (B, N, 2D)."""
        # a slip of the released code: the attention has no residual
        attended = self.attention(self.norm(level), self.norm(others))
        return level + self.dropout(self.feedforward(self.attended_norm(attended)))


class Fusion(nn.Module):
    """Chained layers in which both dates take up their difference, then the reinforcement of every layer."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        width, levels = settings.width, range(settings.fusion_layers)
        self.tokens = GridTokens(channels, settings.grid, width)
        self.layers = nn.ModuleList(
            CrossAttention(2 * width, settings.heads, settings.feedforward, PERCEPTION_DROPOUT)
            for _ in levels
        )
        self.reduce = nn.ModuleList(nn.Linear(2 * width, width) for _ in levels)
        self.reinforce = nn.ModuleList(Reinforcement(settings) for _ in levels)
        xavier_uniform(self)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> memory (B, L, N, 2D), last layer first, as the decoder reads it."""
        a, b = self.tokens(features)
        levels = []
        for layer, reduce in zip(self.layers, self.reduce, strict=True):
            x = torch.cat([a, b - a], dim=-1)
            a = reduce(layer(x, x))
            x = torch.cat([b, b - a], dim=-1)  # a slip of the released code: `a` is already the new one
            b = reduce(layer(x, x))
            levels.append(torch.cat([a, b], dim=-1))
        reinforced = []
        for number, (level, reinforce) in enumerate(zip(levels, self.reinforce, strict=True)):
            others = torch.cat(levels[:number] + levels[number + 1 :], dim=1)
            reinforced.append(reinforce(level, others))
        return torch.stack(reinforced[::-1], dim=1)


class PSNet(ImagePairCaptioner):
    Settings, Fusion = Settings, Fusion


MODEL = PSNet
