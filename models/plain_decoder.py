"""A standard transformer decoder that keeps the keys and values of the memory and of the previous words.

Captions are grouped by pair: P pairs, K captions (or beams) of each, T steps, width D.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import Attention, KeysValues
from models.captioner import CaptionDecoder
from models.decoder import sinusoids
from models.fusion import CrossAttention


@dataclass(frozen=True)
class State:
    """The cache of decoding; immutable, each step returns a new one.

    memory: keys and values of the memory that each layer reads, once per pair.
    prefix: keys and values of the previous words in each layer, (P * K, heads, t, d); empty before the first
    word.
    """

    memory: tuple[KeysValues, ...]
    prefix: tuple[KeysValues, ...] = ()

    def reorder(self, indices: Tensor) -> "State":
        """The state of the beams with flat indices (P', K'); each row holds beams of one pair."""
        pairs = len(self.memory[0][0])
        old_pairs = indices[:, 0] // (len(self.prefix[0][0]) // pairs)
        memory = self.memory
        if not torch.equal(old_pairs, torch.arange(pairs, device=old_pairs.device)):
            memory = _rows(memory, old_pairs)
        return State(memory, _rows(self.prefix, indices.flatten()))


def _rows(layers: tuple[KeysValues, ...], indices: Tensor) -> tuple[KeysValues, ...]:
    return tuple((keys[indices], values[indices]) for keys, values in layers)


class PlainLayer(nn.Module):
    """Self-attention over the words, cross-attention over the memory, feed-forward; post-norm.

    outer_residual: the layer's input is added to its output.
    """

    def __init__(self, width: int, heads: int, dropout: float, outer_residual: bool) -> None:
        super().__init__()
        self.outer_residual = outer_residual
        self.self_attention = Attention(width, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, heads, 4 * width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, words: Tensor, prefix: KeysValues | None, memory: KeysValues
    ) -> tuple[Tensor, KeysValues]:
        """words (P * K, T, D), T = 1 after a prefix -> the output (P * K, T, D) and the longer prefix."""
        longer = self.self_attention.keys_values(words)
        if prefix:
            longer = tuple(torch.cat([old, new], dim=2) for old, new in zip(prefix, longer, strict=True))
        queries = self.self_attention.queries(words)
        # the first call needs a causal mask; later calls read one word, which attends to all previous ones
        attended = self.self_attention.attend(queries, longer, causal=not prefix)
        s = self.self_attention_norm(words + self.dropout(attended))
        by_pair = s.reshape(len(memory[0]), -1, s.shape[-1])  # (P, K * T, D)
        out = self.cross_attention.attend(by_pair, memory).reshape(words.shape)
        return (out + words if self.outer_residual else out), longer


class PlainDecoder(CaptionDecoder):
    """Word embedding with sinusoidal positions, transformer layers, and the output layer.

    Memory (P, L, N, D) has one level, which all layers read, or one for each layer. The layers start with
    equal weights.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        max_length: int,
        width: int,
        heads: int,
        layers: int,
        dropout: float,
        embedding_dropout: float,
        outer_residual: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.register_buffer("positions", sinusoids(max_length + 1, width), persistent=False)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        layer = PlainLayer(width, heads, dropout, outer_residual)
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def start(self, memory: Tensor) -> State:
        """memory (P, L, N, D) of L levels -> the state before the first word."""
        levels = memory.expand(-1, len(self.layers), -1, -1).unbind(1)
        parts = zip(self.layers, levels, strict=True)
        return State(tuple(layer.cross_attention.attention.keys_values(level) for layer, level in parts))

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read T more words of each caption: tokens (P, K, T) -> logits (P, K, T, V) and the state after
        them."""
        past = state.prefix[0][0].shape[2] if state.prefix else 0
        x = self.embedding(tokens.flatten(0, 1)) + self.positions[past : past + tokens.shape[2]]
        x = self.embedding_dropout(x)  # (P * K, T, D)
        prefixes = state.prefix or (None,) * len(self.layers)
        longer = []
        for layer, prefix, memory in zip(self.layers, prefixes, state.memory, strict=True):
            x, keys_values = layer(x, prefix, memory)
            longer.append(keys_values)
        logits = self.output(self.dropout(x))
        return logits.unflatten(0, tokens.shape[:2]), State(state.memory, tuple(longer))
