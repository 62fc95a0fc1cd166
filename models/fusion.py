"""Feature enhancement and fusion: CMCA, UDCA and the convolutional block (paper, section on feature
enhancement).

A stream is one modality at both dates, (B, 2, N, D) with N = grid * grid tokens; rgb and sem are the two
streams.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.attention import Attention, FeedForward


class CrossAttention(nn.Module):
    """CA(query; key_value): attention and feed-forward, each with a residual and a LayerNorm after it."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, inner, dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, key_value: Tensor) -> Tensor:
        """query (B, T, D), key_value (B, S, D) -> (B, T, D)."""
        h = self.attention_norm(query + self.dropout(self.attention(query, key_value)))
        return self.feedforward_norm(h + self.dropout(self.feedforward(h)))


class EnhancementLayer(nn.Module):
    """CMCA (Cross-Modal Cross Attention), then UDCA (Unimodal Difference Cross Attention).

    make: builds one CrossAttention. sharing: "separate" has four modules, one per direction (paper); "shared"
    has one module under four names, which serves every call (released).
    """

    def __init__(self, make: Callable[[], CrossAttention], sharing: str) -> None:
        super().__init__()
        self.rgb_from_sem = make()
        one = self.rgb_from_sem if sharing == "shared" else None
        self.sem_from_rgb = one or make()
        self.rgb_from_difference = one or make()
        self.sem_from_difference = one or make()

    def forward(self, rgb: Tensor, sem: Tensor) -> tuple[Tensor, Tensor]:
        """Streams rgb and sem (B, 2, N, D) -> the enhanced streams. Differences are of the layer's inputs, t1
        - t0."""
        rgb_difference, sem_difference = rgb[:, 1] - rgb[:, 0], sem[:, 1] - sem[:, 0]
        rgb, sem = self._cmca(self.rgb_from_sem, rgb, sem), self._cmca(self.sem_from_rgb, sem, rgb)
        rgb = self._udca(self.rgb_from_difference, rgb, rgb_difference)
        sem = self._udca(self.sem_from_difference, sem, sem_difference)
        return rgb, sem

    @staticmethod
    def _cmca(attend: CrossAttention, stream: Tensor, other: Tensor) -> Tensor:
        """Each date looks at its own date of the other modality: dates stand beside pairs in the batch."""
        return attend(stream.flatten(0, 1), other.flatten(0, 1)).unflatten(0, (-1, 2))

    @staticmethod
    def _udca(attend: CrossAttention, stream: Tensor, difference: Tensor) -> Tensor:
        """Both dates look at one difference (B, N, D), whose keys and values are computed once."""
        return attend(stream.flatten(1, 2), difference).unflatten(1, (2, -1))


class ConvolutionalBlock(nn.Module):
    """One step of the fusion over layers: O_l = LayerNorm(ReLU(u + Conv(u))) with u = O_{l-1} + z_l.

    batchnorm: "live" as usual; "frozen" leaves the statistics as they begin (for several processes on CPUs).
    """

    def __init__(self, channels: int, batchnorm: str) -> None:
        super().__init__()
        self.batchnorm = batchnorm
        inner = channels // 2
        self.conv = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.norm = nn.LayerNorm(channels)

    def train(self, mode: bool = True) -> "ConvolutionalBlock":
        super().train(mode)
        if self.batchnorm == "frozen":
            self.conv.eval()  # nothing in it but BatchNorm differs in training
        return self

    def forward(self, u: Tensor) -> Tensor:
        """u (B, 2D, h, w) -> (B, 2D, h, w); the LayerNorm is over channels at each position."""
        out = torch.relu(u + self.conv(u))
        return self.norm(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Fusion(nn.Module):
    """Trunk features of four views -> the memory that the decoder reads.

    layers: "chained", each layer takes the last one's streams (paper); "parallel", each takes the first
    (released).
    sharing: "separate" or "shared" weights between directions and between modalities.
    """

    def __init__(
        self,
        *,
        channels: int,
        grid: int,
        width: int,
        heads: int,
        feedforward: int,
        fusion_layers: int,
        layers: str,
        sharing: str,
        block_batchnorm: str,
        dropout: float,
    ) -> None:
        super().__init__()

        def cross_attention() -> CrossAttention:
            return CrossAttention(width, heads, feedforward, dropout)

        self.project_rgb = nn.Conv2d(channels, width, 1)
        self.project_sem = nn.Conv2d(channels, width, 1)
        self.columns = nn.Parameter(torch.empty(grid, width // 2))
        self.rows = nn.Parameter(torch.empty(grid, width // 2))
        self.enhance = nn.ModuleList(EnhancementLayer(cross_attention, sharing) for _ in range(fusion_layers))
        self.chained = layers == "chained"
        self.blocks_rgb = nn.ModuleList(
            ConvolutionalBlock(2 * width, block_batchnorm) for _ in range(fusion_layers)
        )
        self.blocks_sem = (
            self.blocks_rgb
            if sharing == "shared"
            else nn.ModuleList(ConvolutionalBlock(2 * width, block_batchnorm) for _ in range(fusion_layers))
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def _tokens(self, project: nn.Conv2d, features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) -> (B, 2, N, D) with learned 2-D positions: channels of the column, then
        of the row."""
        h, w = features.shape[-2:]
        positions = torch.cat(
            [self.columns.expand(h, w, -1), self.rows.unsqueeze(1).expand(h, w, -1)], dim=-1
        )
        x = project(features.flatten(0, 1)).flatten(2).transpose(1, 2)  # (2B, N, D)
        return (x + positions.flatten(0, 1)).unflatten(0, (-1, 2))

    @staticmethod
    def _fuse(blocks: nn.ModuleList, outputs: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Layer outputs, each (B, 2, N, D), dates joined along channels -> X (B, N, 2D)."""
        fused = 0.0
        for block, stream in zip(blocks, outputs, strict=True):
            z = stream.transpose(1, 2).flatten(2).unflatten(1, grid)  # (B, h, w, 2D)
            fused = block(fused + z.permute(0, 3, 1, 2))
        return fused.flatten(2).transpose(1, 2)

    def forward(self, features_rgb: Tensor, features_sem: Tensor) -> Tensor:
        """features (B, 2, C, h, w) of each modality -> memory (B, 2, N, 2D): X_rgb, X_sem."""
        grid = features_rgb.shape[-2:]
        first = self._tokens(self.project_rgb, features_rgb), self._tokens(self.project_sem, features_sem)
        streams, outputs = first, []
        for layer in self.enhance:
            streams = layer(*(streams if self.chained else first))
            outputs.append(streams)
        rgb, sem = zip(*outputs, strict=True)
        return torch.stack(
            [self._fuse(self.blocks_rgb, rgb, grid), self._fuse(self.blocks_sem, sem, grid)], dim=1
        )
