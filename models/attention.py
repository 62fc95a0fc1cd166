"""Multi-head attention whose keys and values can be computed once and kept (Vaswani et al. 2017)."""

import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each (B, heads, S, D / heads)


class Attention(nn.Module):
    """Scaled dot-product attention with biases and one packed (3D, D) projection: queries, keys, values in
    that order."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def _project(self, x: Tensor, parts: slice) -> tuple[Tensor, ...]:
        width = x.shape[-1]
        rows = slice(parts.start * width, parts.stop * width)
        packed = F.linear(x, self.in_proj.weight[rows], self.in_proj.bias[rows])
        packed = packed.unflatten(-1, (-1, self.heads, width // self.heads))  # (B, T, parts, heads, d)
        return packed.permute(2, 0, 3, 1, 4).unbind(0)

    def queries(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, heads, T, D / heads)."""
        return self._project(x, slice(0, 1))[0]

    def keys_values(self, memory: Tensor) -> KeysValues:
        """memory (B, S, D) -> keys and values, each (B, heads, S, D / heads)."""
        keys, values = self._project(memory, slice(1, 3))
        return keys, values

    def attend(self, queries: Tensor, keys_values: KeysValues, causal: bool = False) -> Tensor:
        """queries (B, heads, T, d) over keys and values (B, heads, S, d) -> (B, T, D)."""
        mixed = F.scaled_dot_product_attention(
            queries, *keys_values, dropout_p=self.dropout if self.training else 0.0, is_causal=causal
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """What `attend` weighs the values with, mean over heads; queries, keys as there -> (B, T, S)."""
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        return scores.softmax(dim=-1).mean(dim=1)

    def forward(self, query: Tensor, key_value: Tensor) -> Tensor:
        """query (B, T, D), key_value (B, S, D) -> (B, T, D)."""
        return self.attend(self.queries(query), self.keys_values(key_value))


class FeedForward(nn.Sequential):
    """Linear(Dropout(ReLU(Linear(x)))), width -> inner -> width."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, inner), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(inner, width)
        )
