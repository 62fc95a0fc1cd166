"""Chg2Cap (Chang and Ghamisi, IEEE TIP 2023): hierarchical self-attention, and a residual block with cosines.

Source: ShizhenChang/Chg2Cap, 7b8cda9.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.errors import UserError
from data.settings import Probability
from models.attention import FeedForward
from models.fusion import ResidualBlock, grid_positions, xavier_uniform
from models.image_pair import ImagePairCaptioner, ImagePairSettings
from models.trunks import training_only


@dataclass(frozen=True)
class Settings(ImagePairSettings):
    """Those of the released code."""

    name: str = "chg2cap"
    """The model: a file of models/."""
    grid: PositiveInt = 8
    """Cells a side of the pooled feature map."""
    width: PositiveInt = 2048
    """Channels of the memory and the decoder; the fusion's are those of the trunk."""
    attention_width: PositiveInt = 2048
    """Channels inside the fusion's attention, of all heads."""
    feedforward: PositiveInt = 512
    """Inner width of the fusion's feed-forward networks."""
    fusion_layers: PositiveInt = 3
    """Layers of the fusion."""
    dropout: Probability = training_only(0.1)
    """Dropout of the fusion and the decoder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_width % self.heads:
            raise UserError(
                "model.attention_width must be a multiple of model.heads: "
                f"got {self.attention_width} and {self.heads}"
            )

    @property
    def has_live_batchnorm(self) -> bool:
        return True  # in the fusion's block

    @property
    def memory_width(self) -> int:
        return self.width


class SelfAttentionBlock(nn.Module):
    """Self-attention and feed-forward, each with a residual and a LayerNorm after it."""

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        self.heads, self.rate = settings.heads, settings.dropout
        self.queries = nn.Linear(channels, settings.attention_width, bias=False)
        self.keys = nn.Linear(channels, settings.attention_width, bias=False)
        self.output = nn.Linear(settings.attention_width, channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, settings.feedforward, settings.dropout)
        self.feedforward_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(settings.dropout)

    def _attend(self, x: Tensor) -> Tensor:
        queries = self.queries(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)
        keys = self.keys(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        values = keys  # a slip of the released code, which has a matrix for values but does not use it
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=rate)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> (B, N, C)."""
        h = self.attention_norm(x + self.dropout(self._attend(x)))
        return self.feedforward_norm(h + self.dropout(self.feedforward(h)))


class Fusion(nn.Module):
    """Layers of self-attention over each date, then over both side by side; the block joins the dates."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        self.columns = nn.Parameter(torch.empty(settings.grid, channels // 2))
        self.rows = nn.Parameter(torch.empty(settings.grid, channels // 2))
        layers = range(settings.fusion_layers)
        self.each_date = nn.ModuleList(SelfAttentionBlock(channels, settings) for _ in layers)
        self.both_dates = nn.ModuleList(SelfAttentionBlock(2 * channels, settings) for _ in layers)
        xavier_uniform(self)
        self.join = nn.Conv2d(2 * channels, settings.width, 1)
        self.block = ResidualBlock(settings.width, "live")

    def forward(self, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> memory (B, 1, N, D)."""
        grid = features.shape[-2:]
        tokens = features.flatten(3).transpose(2, 3) + grid_positions(self.columns, self.rows, grid)
        first_a, first_b = a, b = tokens.unbind(1)  # (B, N, C) each
        for each_date, both_dates in zip(self.each_date, self.both_dates, strict=True):
            a, b = each_date(a) + a, each_date(b) + b  # a second residual around the block
            a, b = both_dates(torch.cat([a, b], dim=-1)).chunk(2, dim=-1)
            a, b = a + first_a, b + first_b  # residual from the fusion's input, not the layer's
        cosine = F.cosine_similarity(a, b, dim=-1, eps=1e-8).unsqueeze(-1)  # added to every channel
        joined = (torch.cat([a, b], dim=-1) + cosine).transpose(1, 2).unflatten(2, grid)
        return self.block(self.join(joined)).flatten(2).transpose(1, 2).unsqueeze(1)


class Chg2Cap(ImagePairCaptioner):
    Settings, Fusion = Settings, Fusion
    outer_residual = True


MODEL = Chg2Cap
