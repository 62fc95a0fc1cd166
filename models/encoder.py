"""Siamese image encoder: a trunk, pooled to a square grid (paper, section on encoders)."""

from torch import Tensor, nn

from models.trunks import TrunkSettings, make_trunk


class Encoder(nn.Module):
    """The trunk of one modality, applied to both dates, and pooling to grid x grid cells."""

    def __init__(self, settings: TrunkSettings, *, grid: int, input_channels: int = 3) -> None:
        super().__init__()
        self.trunk = make_trunk(settings, input_channels)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.channels = self.trunk.channels[-1]

    def forward(self, dates: Tensor, plain: Tensor | None = None) -> Tensor:
        """T dates of one modality (B, T, 3, H, W) -> (B, T, C, grid, grid).

        plain (B, T): as in `Trunk.each_date`.
        """
        return self.trunk.each_date(lambda images: self.pool(self.trunk(images)), dates, plain)
