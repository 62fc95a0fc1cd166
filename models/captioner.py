"""The base class of captioning models: an encoder computes the memory, and a decoder reads it.

A model subclasses `Captioner` in its own file. It defines `Settings` (a frozen dataclass), `features`, `fuse`
and a `CaptionDecoder`; teacher forcing and beam search are inherited. docs/extending.md shows an example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from data.dataset import views_of
from data.hdf5 import VIEWS
from models.beam_search import Hypothesis, State, beam_search
from models.precision import plain_float32
from models.trunks import TrunkSettings, pixel_statistics

SENTENCES_AT_ONCE = 64  # in `Captioner.sentence_log_probs`, which bounds its memory


@dataclass(frozen=True)
class CaptionerSettings(TrunkSettings):
    """The settings of every captioning model; the base of its `Settings`."""

    task: ClassVar[str] = "captioning"

    max_length: PositiveInt = 50
    """Longest caption, in words."""


@dataclass(frozen=True)
class WordAttention:
    """The attention with which each word of a caption is predicted.

    grids: attention over each source's grid, mean over heads, (P, K, T, N), by the source's name.
    gates: the weight of each source, mean over channels, (P, K, T); empty in models without gates.
    """

    grids: dict[str, Tensor]
    gates: dict[str, Tensor]


class CaptionDecoder(nn.Module):
    """A decoder over captions grouped by pair: P pairs, K captions (or beams) of each, T steps.

    Subclasses define `start` and `advance`; teacher forcing and single steps follow from these.
    """

    def start(self, memory: Tensor) -> State:
        """memory, one row per pair -> the state before the first word, of one caption per pair."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read T more words of each caption: tokens (P, K, T) -> logits (P, K, T, V) and the state after
        them.

        T is 1 unless `state` is that of `start`, which then serves all K captions of a pair.
        """
        raise NotImplementedError

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Teacher-forced logits: tokens (P, K, T), memory, one row per pair -> (P, K, T, V)."""
        return self.advance(tokens, self.start(memory))[0]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """One more word: tokens (P, K) -> log-probabilities of the next word (P, K, V) in float32, and the
        new state."""
        logits, state = self.advance(tokens.unsqueeze(-1), state)
        return logits.squeeze(2).float().log_softmax(dim=-1), state

    def log_probs(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Teacher-forced log-probabilities in float32, from the arguments of `forward`: (P, K, T, V)."""
        return self(tokens, memory).float().log_softmax(dim=-1)


class Captioner(nn.Module):
    """A model that captions the views of a pair: rgb t0, rgb t1, map t0, map t1, in this order.

    Settings: the dataclass of the YAML's `model:` section. views: the names of the views that it reads.
    """

    Settings: ClassVar[type[CaptionerSettings]]
    views: Sequence[str] = VIEWS
    decoder: CaptionDecoder

    def __init__(self, settings: CaptionerSettings) -> None:
        super().__init__()
        self.settings = settings
        mean, std = pixel_statistics(settings.normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalised(self, views: Tensor) -> Tensor:
        """The input of the trunks: views (..., 3, H, W) uint8 -> normalised floats of the same shape."""
        return (views.to(self.mean.dtype) / 255 - self.mean) / self.std

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """The trunk's output: views (B, 4, 3, H, W) uint8 -> features, one row per pair.

        Features of a fixed trunk are computed once and kept (`train.keep_features`).
        plain (B, 4): `data.views.plain_colours` of the views, computed if missing; models may ignore it.
        """
        raise NotImplementedError

    def fuse(self, features: Tensor) -> Tensor:
        """Features -> the memory that the decoder reads; both have one row per pair."""
        raise NotImplementedError

    def encode(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> memory, one row per pair; plain: as in `features`."""
        return self.fuse(self.features(views, plain))

    def forward(
        self,
        views: Tensor | None,
        tokens: Tensor,
        plain: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits: views (B, 4, 3, H, W) uint8, tokens (B, T) -> (B, T, V).

        tokens (B, K, T), K captions of each pair, -> (B, K, T, V); each pair is encoded once.
        plain: as in `features`. features: the pairs' features instead of their views.
        """
        grouped = tokens if tokens.dim() == 3 else tokens.unsqueeze(1)
        logits = self.decoder(grouped, self.memory(views, plain, features))
        return logits.reshape(*tokens.shape, -1)

    def memory(
        self, views: Tensor | None, plain: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        """The memory of pairs, from the arguments of `forward`; one row per pair."""
        return self.encode(views, plain) if features is None else self.fuse(features.to(self.mean.dtype))

    def parts(self) -> dict[str, nn.Module]:
        """The optimiser's parameter groups, by name. The rate of "decoder" decays on a plateau
        (`train.decay`); gradients of "fusion" may stay unclipped (`train.clip_fusion`)."""
        return dict(self.named_children())

    @torch.inference_mode()
    def caption(
        self,
        views: Tensor | None,
        *,
        start: int,
        end: int,
        beam_size: int,
        best: int = 1,
        plain: Tensor | None = None,
        features: Tensor | None = None,
    ) -> list[list[Hypothesis]]:
        """Beam search: views (B, 4, 3, H, W) uint8 -> the `best` captions of each pair, most likely first.

        plain, features: as in `forward`.
        """
        memory = self.memory(views, plain, features)
        return self.search(memory, start=start, end=end, beam_size=beam_size, best=best)

    @torch.inference_mode()
    def search(
        self, memory: Tensor, *, start: int, end: int, beam_size: int, best: int = 1
    ) -> list[list[Hypothesis]]:
        """Beam search from a memory: the `best` captions of each pair, most likely first.

        Autocast applies to the encoder only. The decoder, a small part of the work, stays in float32, because
        in bf16 rounding chooses between captions of nearly equal probability: 91.5 % of the demo's captions
        equal those of float32 with a bf16 decoder, 99.2 % with this one.
        """
        with plain_float32(memory.device):
            return beam_search(
                self.decoder,
                memory.to(self.mean.dtype),
                start=start,
                end=end,
                beam_size=beam_size,
                max_steps=self.settings.max_length + 1,
                best=best,
            )

    @torch.inference_mode()
    def sentence_log_probs(self, memory: Tensor, tokens: Tensor, pad: int) -> Tensor:
        """The log-probability of each sentence for each pair, by teacher forcing: (P, K) in float32.

        tokens (K, T): `<start>`, the words, `<end>`, and `pad` after it. memory: of P pairs. For a caption of
        the beam search it equals the search's own log-probability.
        """
        with plain_float32(memory.device):
            memory = memory.to(self.mean.dtype)
            sums = []
            for sentences in tokens.split(SENTENCES_AT_ONCE):
                grouped = sentences.expand(len(memory), -1, -1)  # (P, K, T)
                targets = grouped[..., 1:]
                log_probs = self.decoder.log_probs(grouped[..., :-1], memory)
                of_words = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
                sums.append(of_words.masked_fill(targets == pad, 0).sum(dim=-1))
            return torch.cat(sums, dim=1)

    def explain(self, views: Tensor, tokens: Tensor) -> WordAttention | None:
        """The attention that predicts the word after each of `tokens` (B, K, T), which begin with `<start>`;
        views (B, 4, 3, H, W) uint8. None for models without attention."""
        return None

    def mixed_features(self, clean: Tensor, views: Tensor, differs: Tensor) -> Tensor:
        """`features` of perturbed views (B, 4, 3, H, W); clean: the features of the unperturbed views.

        differs (B, 4): the views that are perturbed. Models that encode each view separately reuse `clean`.
        """
        return self.features(views)


def inputs_of(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor | None]:
    """The arguments of `Captioner.forward` and `caption` for a batch of data/dataset.py."""
    if "features" in batch:
        return {"views": None, "features": batch["features"].to(device, non_blocking=True)}
    return {"views": views_of(batch, device), "plain": batch.get("plain")}
