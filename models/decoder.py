"""Caption decoder with MGCA (Multimodal Gated Cross Attention; paper, section on the caption decoder).

Captions are grouped by pair: P pairs, K captions (or beams) of each, T steps, width D. The keys and values of
a pair's memory are computed once for all its captions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import Attention, FeedForward, KeysValues
from models.captioner import CaptionDecoder, WordAttention
from models.weight_sharing import one_for_each

Memory = tuple[KeysValues, ...]  # of each modality, (P, heads, N, d) each


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (length, width): sin on even channels, cos on odd ones, base 10000 (Vaswani et al.
    2017)."""
    # the device is named, as for all constants: a checkpoint's model is built on "meta", without values
    steps, channels = torch.arange(length, device="cpu"), torch.arange(0, width, 2, device="cpu")
    angles = steps.unsqueeze(1) * torch.exp(channels * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


@dataclass(frozen=True)
class State:
    """The cache of decoding; immutable, each step returns a new one.

    memory: keys and values of the memory, once per pair.
    prefix: keys and values of the previous words, (P * K, heads, t, d); None before the first word.
    """

    memory: Memory
    prefix: KeysValues | None = None

    def reorder(self, indices: Tensor) -> "State":
        """The state of the beams with flat indices (P', K'); each row holds beams of one pair."""
        pairs = len(self.memory[0][0])
        old_pairs = indices[:, 0] // (len(self.prefix[0]) // pairs)
        memory = self.memory
        if not torch.equal(old_pairs, torch.arange(pairs, device=old_pairs.device)):
            memory = tuple((keys[old_pairs], values[old_pairs]) for keys, values in memory)
        keys, values = self.prefix
        return State(memory, (keys[indices.flatten()], values[indices.flatten()]))


class MGCA(nn.Module):
    """Multimodal Gated Cross Attention: m = LayerNorm(sum_i g_i * a_i + g_word * s) over the modalities i, no
    other residual.

    sharing: "separate", an attention per modality (paper); "shared", one attention for all (authors' code).
    """

    def __init__(
        self, modalities: Sequence[str], width: int, heads: int, dropout: float, sharing: str
    ) -> None:
        super().__init__()
        self.modalities = modalities
        attentions = one_for_each(modalities, lambda: Attention(width, heads, dropout), sharing)
        for name, attention in attentions.items():
            self.add_module(f"attend_{name}", attention)
        for name in modalities:
            self.add_module(f"gate_{name}", nn.Linear(2 * width, width))
        self.gate_word = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def _attentions(self) -> list[Attention]:
        return [self.get_submodule(f"attend_{name}") for name in self.modalities]

    def keys_values(self, memory: Tensor) -> Memory:
        """memory (P, M, N, D) -> keys and values of each modality."""
        parts = zip(self._attentions(), memory.unbind(1), strict=True)
        return tuple(attention.keys_values(part) for attention, part in parts)

    def forward(self, s: Tensor, memory: Memory) -> Tensor:
        """s (P, K * T, D) over the memory's keys and values -> m (P, K * T, D)."""
        parts = zip(self._attentions(), memory, strict=True)
        attended = [self.dropout(attention.attend(attention.queries(s), part)) for attention, part in parts]
        *gates, g_word = self.gates(s, attended)
        return self.norm(sum(g * a for g, a in zip(gates, attended, strict=True)) + g_word * s)

    def gates(self, s: Tensor, attended: Sequence[Tensor]) -> list[Tensor]:
        """g of each modality, given what it attended to, then g_word, element-wise: all (P, K * T, D)."""
        gates = [
            torch.sigmoid(self.get_submodule(f"gate_{name}")(torch.cat([s, a], dim=-1)))
            for name, a in zip(self.modalities, attended, strict=True)
        ]
        return [*gates, torch.sigmoid(self.gate_word(s))]

    def attention(self, s: Tensor, memory: Memory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights in `forward`: attention over each grid (P, K * T, N) and gates (P, K * T), by name."""
        grids, attended = {}, []
        for name, attention, part in zip(self.modalities, self._attentions(), memory, strict=True):
            queries = attention.queries(s)
            grids[name] = attention.weights(queries, part[0])
            attended.append(attention.attend(queries, part))
        means = (gate.mean(dim=-1) for gate in self.gates(s, attended))
        return grids, dict(zip((*self.modalities, "word"), means, strict=True))


class UngatedAttention(nn.Module):
    """The cross-attention of a standard transformer decoder, instead of MGCA.

    m = LayerNorm(s + Dropout(MHA(s, X))), where X are the tokens of all modalities.
    """

    def __init__(self, modalities: Sequence[str], width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.modalities = modalities
        self.attend = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def keys_values(self, memory: Tensor) -> Memory:
        """memory (P, M, N, D) -> keys and values of its M * N tokens."""
        return (self.attend.keys_values(memory.flatten(1, 2)),)

    def forward(self, s: Tensor, memory: Memory) -> Tensor:
        """s (P, K * T, D) over the memory's keys and values -> m (P, K * T, D)."""
        return self.norm(s + self.dropout(self.attend.attend(self.attend.queries(s), *memory)))

    def attention(self, s: Tensor, memory: Memory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weights in `forward`: attention over each grid (P, K * T, N), by name; no gates."""
        weights = self.attend.weights(self.attend.queries(s), memory[0][0])
        grids = weights.chunk(len(self.modalities), dim=-1)
        return dict(zip(self.modalities, grids, strict=True)), {}


class Decoder(CaptionDecoder):
    """Word embedding, one decoder layer with MGCA, and the output layer over the vocabulary.

    mgca: False replaces MGCA by a standard cross-attention (an ablation).
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        vocabulary_size: int,
        max_length: int,
        width: int,
        heads: int,
        feedforward: int,
        sharing: str,
        mgca: bool,
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.register_buffer("positions", sinusoids(max_length + 1, width), persistent=False)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.self_attention = Attention(width, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(width)
        self.mgca = (
            MGCA(modalities, width, heads, dropout, sharing)
            if mgca
            else UngatedAttention(modalities, width, heads, dropout)
        )
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def start(self, memory: Tensor) -> State:
        """memory (P, M, N, D) of M modalities -> the state before the first word."""
        return State(self.mgca.keys_values(memory))

    def attention(self, tokens: Tensor, memory: Tensor) -> WordAttention:
        """The attention that predicts the word after each of tokens (P, K, T); memory (P, M, N, D)."""
        state = self.start(memory)
        s, _ = self._read(tokens, state)
        grids, gates = self.mgca.attention(s, state.memory)
        steps = tokens.shape[1:]  # (K, T)
        return WordAttention(
            grids={name: grid.unflatten(1, steps) for name, grid in grids.items()},
            gates={name: gate.unflatten(1, steps) for name, gate in gates.items()},
        )

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read T more words of each caption: tokens (P, K, T) -> logits (P, K, T, V) and the state after
        them."""
        s, prefix = self._read(tokens, state)
        m = self.mgca(s, state.memory)  # (P, K * T, D)
        out = self.feedforward_norm(m + self.dropout(self.feedforward(m)))
        logits = self.output(self.dropout(out))
        return logits.reshape(*tokens.shape, -1), State(state.memory, prefix)

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, KeysValues]:
        """Self-attention over the words: tokens (P, K, T) -> s (P, K * T, D) and the longer prefix."""
        pairs, _, steps = tokens.shape
        past = state.prefix[0].shape[2] if state.prefix else 0
        words = self.embedding(tokens.flatten(0, 1)) + self.positions[past : past + steps]  # (P * K, T, D)
        words = self.embedding_dropout(words)
        prefix = self.self_attention.keys_values(words)
        if state.prefix:
            prefix = tuple(
                torch.cat([old, new], dim=2) for old, new in zip(state.prefix, prefix, strict=True)
            )
        # the first call needs a causal mask; later calls read one word, which attends to all previous ones
        attended = self.self_attention.attend(self.self_attention.queries(words), prefix, causal=past == 0)
        s = self.self_attention_norm(words + self.dropout(attended))
        return s.reshape(pairs, -1, s.shape[-1]), prefix
