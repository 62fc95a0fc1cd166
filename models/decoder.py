"""Caption decoder with MGCA (Multimodal Gated Cross Attention; paper, section on the caption decoder).

Everything here works on captions grouped by pair: P pairs, K captions (or beams) of each, T steps, width D.
The memory of a pair and its keys and values exist once, however many captions look at them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import Attention, FeedForward, KeysValues


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (length, width): sin on even channels, cos on odd ones, base 10000 (Vaswani et al.
    2017)."""
    # the device is named, as for all constants: a checkpoint's model is built on "meta", without values
    steps, channels = torch.arange(length, device="cpu"), torch.arange(0, width, 2, device="cpu")
    angles = steps.unsqueeze(1) * torch.exp(channels * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


@dataclass(frozen=True)
class State:
    """What decoding has computed so far; a value that `step` returns anew.

    rgb, sem: keys and values of the memory, (P, heads, N, d), once per pair.
    prefix: keys and values of the words so far, (P * K, heads, t, d); None before the first word.
    """

    rgb: KeysValues
    sem: KeysValues
    prefix: KeysValues | None = None

    def reorder(self, indices: Tensor) -> "State":
        """Beams picked by `indices` (P', K'), each the flat place of an old beam; a row holds beams of one
        pair."""
        pairs = len(self.rgb[0])
        old_pairs = indices[:, 0] // (len(self.prefix[0]) // pairs)
        rgb, sem = self.rgb, self.sem
        if not torch.equal(old_pairs, torch.arange(pairs, device=old_pairs.device)):
            rgb = rgb[0][old_pairs], rgb[1][old_pairs]
            sem = sem[0][old_pairs], sem[1][old_pairs]
        keys, values = self.prefix
        return State(rgb, sem, (keys[indices.flatten()], values[indices.flatten()]))


@dataclass(frozen=True)
class WordAttention:
    """What MGCA does to choose each word of a caption.

    rgb, sem: attention over each memory's grid, mean over heads, (P, K, T, N), which sums to 1.
    gates: RGB, maps, word, mean over channels, (P, K, T, 3).
    """

    rgb: Tensor
    sem: Tensor
    gates: Tensor


class MGCA(nn.Module):
    """Multimodal Gated Cross Attention: m = LayerNorm(g1 * a_rgb + g2 * a_sem + g3 * s), no other residual.

    sharing: "separate", an attention per modality (paper); "shared", both memories through the same weights
    (released).
    """

    def __init__(self, width: int, heads: int, dropout: float, sharing: str) -> None:
        super().__init__()
        self.attend_rgb = Attention(width, heads, dropout)
        self.attend_sem = self.attend_rgb if sharing == "shared" else Attention(width, heads, dropout)
        self.gate_rgb = nn.Linear(2 * width, width)
        self.gate_sem = nn.Linear(2 * width, width)
        self.gate_word = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, s: Tensor, rgb: KeysValues, sem: KeysValues) -> Tensor:
        """s (P, K * T, D) over the memories' keys and values (P, heads, N, d) -> (P, K * T, D)."""
        a_rgb = self.dropout(self.attend_rgb.attend(self.attend_rgb.queries(s), rgb))
        a_sem = self.dropout(self.attend_sem.attend(self.attend_sem.queries(s), sem))
        g1, g2, g3 = self.gates(s, a_rgb, a_sem)
        return self.norm(g1 * a_rgb + g2 * a_sem + g3 * s)

    def gates(self, s: Tensor, a_rgb: Tensor, a_sem: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """g1 (RGB), g2 (maps), g3 (word), element-wise: all (P, K * T, D)."""
        g1 = torch.sigmoid(self.gate_rgb(torch.cat([s, a_rgb], dim=-1)))
        g2 = torch.sigmoid(self.gate_sem(torch.cat([s, a_sem], dim=-1)))
        g3 = torch.sigmoid(self.gate_word(s))
        return g1, g2, g3

    def attention(self, s: Tensor, rgb: KeysValues, sem: KeysValues) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` weighs: attention over rgb and sem, (P, K * T, N), and the gates (P, K * T, 3)."""
        over_rgb, over_sem = self.attend_rgb.queries(s), self.attend_sem.queries(s)
        gates = self.gates(s, self.attend_rgb.attend(over_rgb, rgb), self.attend_sem.attend(over_sem, sem))
        return (
            self.attend_rgb.weights(over_rgb, rgb[0]),
            self.attend_sem.weights(over_sem, sem[0]),
            torch.stack([gate.mean(dim=-1) for gate in gates], dim=-1),
        )


class Decoder(nn.Module):
    """Word embedding, one decoder layer with MGCA, and the output layer over the vocabulary."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        max_length: int,
        width: int,
        heads: int,
        feedforward: int,
        sharing: str,
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.register_buffer("positions", sinusoids(max_length + 1, width), persistent=False)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.self_attention = Attention(width, heads, dropout)
        self.self_attention_norm = nn.LayerNorm(width)
        self.mgca = MGCA(width, heads, dropout, sharing)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def start(self, memory: Tensor) -> State:
        """memory (P, 2, N, D) -> the state before the first word."""
        rgb, sem = memory.unbind(1)
        return State(self.mgca.attend_rgb.keys_values(rgb), self.mgca.attend_sem.keys_values(sem))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Teacher-forced logits: tokens (P, K, T), memory (P, 2, N, D) -> (P, K, T, V)."""
        return self._advance(tokens, self.start(memory))[0]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One more word: tokens (P, K) -> log-probabilities of the next word (P, K, V) in float32, and the
        new state."""
        logits, state = self._advance(tokens.unsqueeze(-1), state)
        return logits.squeeze(2).float().log_softmax(dim=-1), state

    def attention(self, tokens: Tensor, memory: Tensor) -> WordAttention:
        """What was looked at to choose the word after each of tokens (P, K, T); memory (P, 2, N, D)."""
        state = self.start(memory)
        s, _ = self._read(tokens, state)
        looked = self.mgca.attention(s, state.rgb, state.sem)
        return WordAttention(*(part.unflatten(1, tokens.shape[1:]) for part in looked))

    def _advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read T more words of each caption: tokens (P, K, T) -> logits (P, K, T, V) and the state after
        them."""
        s, prefix = self._read(tokens, state)
        m = self.mgca(s, state.rgb, state.sem)  # (P, K * T, D)
        out = self.feedforward_norm(m + self.dropout(self.feedforward(m)))
        logits = self.output(self.dropout(out))
        return logits.reshape(*tokens.shape, -1), State(state.rgb, state.sem, prefix)

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
        # the words of a first call see none after them; a later call brings one word, which may see all
        attended = self.self_attention.attend(self.self_attention.queries(words), prefix, causal=past == 0)
        s = self.self_attention_norm(words + self.dropout(attended))
        return s.reshape(pairs, -1, s.shape[-1]), prefix
