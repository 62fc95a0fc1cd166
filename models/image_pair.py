"""The common parts of captioning models that read the two images alone: settings, encoder, grid tokens."""

from dataclasses import dataclass

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.errors import UserError
from data.settings import Probability
from models.captioner import Captioner, CaptionerSettings
from models.encoder import Encoder
from models.fusion import grid_positions
from models.plain_decoder import PlainDecoder
from models.trunks import training_only


@dataclass(frozen=True)
class ImagePairSettings(CaptionerSettings):
    """The settings of a transformer over the trunk's grids of both dates."""

    grid: PositiveInt = 14
    """Cells a side of the pooled feature map."""
    width: PositiveInt = 512
    """Channels of the fusion."""
    heads: PositiveInt = 8
    """Attention heads."""
    fusion_layers: PositiveInt = 2
    """Layers of the fusion."""
    decoder_layers: PositiveInt = 1
    """Layers of the decoder."""
    dropout: Probability = training_only(0.5)
    """Dropout of the fusion and the decoder."""
    embedding_dropout: Probability = training_only(0.1)
    """Dropout of the word embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 or self.width % self.heads:
            raise UserError(
                f"model.width must be even and a multiple of model.heads: got {self.width} and {self.heads}"
            )

    @property
    def memory_width(self) -> int:
        """Channels of the memory and the decoder: those of both dates, side by side."""
        return 2 * self.width


class ImagePairCaptioner(Captioner):
    """A Siamese encoder, a fusion of the two grids, and a standard transformer decoder.

    Fusion: the model's fusion, built from its settings and the encoder's channels; its forward maps features
    (B, 2, C, grid, grid) to the memory (B, L, N, settings.memory_width). outer_residual: of the decoder's
    layers.
    """

    Fusion: type[nn.Module]
    views = ("rgb_a", "rgb_b")
    outer_residual = False

    def __init__(self, settings: ImagePairSettings, vocabulary_size: int) -> None:
        super().__init__(settings)
        self.encoder, self.fusion = self.make_parts(settings)
        self.decoder = PlainDecoder(
            vocabulary_size=vocabulary_size,
            max_length=settings.max_length,
            width=settings.memory_width,
            heads=settings.heads,
            layers=settings.decoder_layers,
            dropout=settings.dropout,
            embedding_dropout=settings.embedding_dropout,
            outer_residual=self.outer_residual,
        )

    def make_parts(self, settings: ImagePairSettings) -> tuple[Encoder, nn.Module]:
        """The encoder, applied to both images, and the fusion."""
        encoder = Encoder(settings, grid=settings.grid)
        return encoder, self.Fusion(settings, encoder.channels)

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> the trunk's pooled features of both images (B, 2, C, grid, grid)."""
        return self.encoder(self.normalised(views[:, :2]))

    def fuse(self, features: Tensor) -> Tensor:
        return self.fusion(features)


class GridTokens(nn.Module):
    """1x1 convolution of both dates' features to the fusion's width, plus learned positions."""

    def __init__(self, channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)
        self.columns = nn.Parameter(torch.randn(grid, width // 2))
        self.rows = nn.Parameter(torch.randn(grid, width // 2))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, 2, C, h, w) -> the tokens of t0 and of t1, (B, N, D) each."""
        positions = grid_positions(self.columns, self.rows, features.shape[-2:])
        x = self.project(features.flatten(0, 1)).flatten(2).transpose(1, 2) + positions  # (2B, N, D)
        return x.unflatten(0, (-1, 2)).unbind(1)
