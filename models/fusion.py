"""Feature enhancement and fusion: CMCA, UDCA and the convolutional block (paper, section on feature
enhancement).

A stream is one modality ("rgb" or "sem") at both dates, (B, 2, N, D) with N = grid * grid tokens.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.attention import Attention, FeedForward, KeysValues
from models.weight_sharing import one_for_each

Streams = dict[str, Tensor]  # by modality


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
        return self.attend(query, self.attention.keys_values(key_value))

    def attend(self, query: Tensor, keys_values: KeysValues) -> Tensor:
        """`forward` with the keys and values of `attention.keys_values`."""
        attended = self.attention.attend(self.attention.queries(query), keys_values)
        h = self.attention_norm(query + self.dropout(attended))
        return self.feedforward_norm(h + self.dropout(self.feedforward(h)))


class EnhancementLayer(nn.ModuleDict):
    """CMCA (Cross-Modal Cross Attention), then UDCA (Unimodal Difference Cross Attention).

    The layer has a cross-attention for each direction, such as rgb_from_sem. make: creates one. sharing:
    "separate", each direction has its own weights (paper); "shared", all have the same (authors' code).
    cmca, udca: False leaves out this step (an ablation).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        make: Callable[[], CrossAttention],
        sharing: str,
        *,
        cmca: bool,
        udca: bool,
    ) -> None:
        across = ["rgb_from_sem", "sem_from_rgb"] if cmca else []
        within = [f"{name}_from_difference" for name in modalities] if udca else []
        super().__init__(one_for_each([*across, *within], make, sharing))
        self.cmca, self.udca = cmca, udca

    def forward(self, streams: Streams) -> Streams:
        """Streams (B, 2, N, D) -> the enhanced streams. Differences are of the layer's inputs, t1 - t0."""
        differences = {name: dates[:, 1] - dates[:, 0] for name, dates in streams.items()}
        if self.cmca:
            rgb, sem = streams["rgb"], streams["sem"]
            streams = {
                "rgb": self._cmca(self["rgb_from_sem"], rgb, sem),
                "sem": self._cmca(self["sem_from_rgb"], sem, rgb),
            }
        if self.udca:
            streams = {
                name: self._udca(self[f"{name}_from_difference"], dates, differences[name])
                for name, dates in streams.items()
            }
        return streams

    @staticmethod
    def _cmca(attend: CrossAttention, stream: Tensor, other: Tensor) -> Tensor:
        """Each date attends to the same date of the other modality, with dates in the batch dimension."""
        return attend(stream.flatten(0, 1), other.flatten(0, 1)).unflatten(0, (-1, 2))

    @staticmethod
    def _udca(attend: CrossAttention, stream: Tensor, difference: Tensor) -> Tensor:
        """Both dates attend to their difference (B, N, D), whose keys and values are computed once."""
        return attend(stream.flatten(1, 2), difference).unflatten(1, (2, -1))


class ResidualBlock(nn.Module):
    """ReLU(u + Conv(u)) with three convolutions that halve the channels inside.

    batchnorm: "live" as usual; "frozen" keeps the initial statistics.
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

    def train(self, mode: bool = True) -> "ResidualBlock":
        super().train(mode)
        if self.batchnorm == "frozen":
            self.conv.eval()  # only its BatchNorm depends on the mode
        return self

    def forward(self, u: Tensor) -> Tensor:
        """u (B, C, h, w) -> (B, C, h, w)."""
        return torch.relu(u + self.conv(u))


class ConvolutionalBlock(ResidualBlock):
    """One step of the fusion over layers: O_l = LayerNorm(ReLU(u + Conv(u))) with u = O_{l-1} + z_l."""

    def __init__(self, channels: int, batchnorm: str) -> None:
        super().__init__(channels, batchnorm)
        self.norm = nn.LayerNorm(channels)

    def forward(self, u: Tensor) -> Tensor:
        """u (B, 2D, h, w) -> (B, 2D, h, w); the LayerNorm is over channels at each position."""
        out = super().forward(u)
        return self.norm(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def grid_positions(columns: Tensor, rows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Learned 2-D positions of h x w tokens: columns (>= w, D / 2), rows (>= h, D / 2) -> (N, D).

    The first half of the channels encodes the column, the second half the row.
    """
    h, w = grid
    parts = [columns[:w].expand(h, w, -1), rows[:h].unsqueeze(1).expand(h, w, -1)]
    return torch.cat(parts, dim=-1).flatten(0, 1)


def xavier_uniform(module: nn.Module) -> None:
    """Xavier-uniform values for all parameters of more than one dimension."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


class Fusion(nn.Module):
    """Fuses the trunk features of the modalities into the memory of the decoder.

    modalities: ("rgb", "sem") or one of them. layers: "chained", the input of a layer is the output of the
    previous one (paper); "parallel", all layers have the same input (authors' code). sharing: "separate" or
    "shared" weights between directions and between modalities. cmca, udca: False for an ablation; CMCA needs
    both modalities.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        channels: int,
        grid: int,
        width: int,
        heads: int,
        feedforward: int,
        fusion_layers: int,
        layers: str,
        sharing: str,
        cmca: bool,
        udca: bool,
        block_batchnorm: str,
        dropout: float,
    ) -> None:
        super().__init__()

        def cross_attention() -> CrossAttention:
            return CrossAttention(width, heads, feedforward, dropout)

        def layer() -> EnhancementLayer:
            across = cmca and len(modalities) == 2
            return EnhancementLayer(modalities, cross_attention, sharing, cmca=across, udca=udca)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(ConvolutionalBlock(2 * width, block_batchnorm) for _ in range(fusion_layers))

        self.modalities, self.chained = modalities, layers == "chained"
        for name in modalities:
            self.add_module(f"project_{name}", nn.Conv2d(channels, width, 1))
        self.columns = nn.Parameter(torch.empty(grid, width // 2))
        self.rows = nn.Parameter(torch.empty(grid, width // 2))
        self.enhance = nn.ModuleList(layer() for _ in range(fusion_layers))
        for name, module in one_for_each(modalities, blocks, sharing).items():
            self.add_module(f"blocks_{name}", module)
        xavier_uniform(self)

    def _tokens(self, name: str, features: Tensor) -> Tensor:
        """Features (B, 2, C, h, w) of a modality -> tokens (B, 2, N, D) with learned 2-D positions."""
        positions = grid_positions(self.columns, self.rows, features.shape[-2:])
        project = self.get_submodule(f"project_{name}")
        x = project(features.flatten(0, 1)).flatten(2).transpose(1, 2)  # (2B, N, D)
        return (x + positions).unflatten(0, (-1, 2))

    def _fuse(self, name: str, outputs: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """The layer outputs of a modality, each (B, 2, N, D) -> X (B, N, 2D), dates concatenated."""
        fused = 0.0
        for block, stream in zip(self.get_submodule(f"blocks_{name}"), outputs, strict=True):
            z = stream.transpose(1, 2).flatten(2).unflatten(1, grid)  # (B, h, w, 2D)
            fused = block(fused + z.permute(0, 3, 1, 2))
        return fused.flatten(2).transpose(1, 2)

    def forward(self, *features: Tensor) -> Tensor:
        """features (B, 2, C, h, w) of each of the M modalities -> memory (B, M, N, 2D), the X of each."""
        grid = features[0].shape[-2:]
        named = zip(self.modalities, features, strict=True)
        first = streams = {name: self._tokens(name, dates) for name, dates in named}
        outputs = []
        for layer in self.enhance:
            streams = layer(streams if self.chained else first)
            outputs.append(streams)
        fused = []
        for name in self.modalities:
            fused.append(self._fuse(name, [streams[name] for streams in outputs], grid))
        return torch.stack(fused, dim=1)
