"""What every captioning model is: an encoder, whose output is the memory, and a decoder that reads it.

A model is a subclass in a file of its own. It has a frozen dataclass `Settings`, a decoder, and `features`
and `fuse` (or `encode` alone); teacher forcing and beam search are written here. docs/extending.md shows
one.
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


@dataclass(frozen=True)
class CaptionerSettings(TrunkSettings):
    """What every captioning model's `Settings` has."""

    task: ClassVar[str] = "captioning"

    max_length: PositiveInt = 50
    """Longest caption, in words."""


@dataclass(frozen=True)
class WordAttention:
    """What each word of a caption was chosen from.

    grids: attention over each source's grid, mean over heads, (P, K, T, N), by the source's name.
    gates: how much each source counts, mean over channels, (P, K, T); empty in models without gates.
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


class Captioner(nn.Module):
    """Views of a pair, in the order rgb t0, rgb t1, map t0, map t1, -> a sentence.

    Settings: the YAML's `model:` section for this model. views: those that the model looks at.
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
        """What the trunks read of views (..., 3, H, W) uint8: floats of the same shape."""
        return (views.to(self.mean.dtype) / 255 - self.mean) / self.std

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """What the trunk gives: views (B, 4, 3, H, W) uint8 -> features, one row per pair.

        A trunk that is never trained computes them once (`train.keep_features`).
        plain (B, 4): `data.views.plain_colours` of the views, computed where absent.
        """
        raise NotImplementedError

    def fuse(self, features: Tensor) -> Tensor:
        """Features, one row per pair -> memory (B, L, N, D): L levels of N tokens."""
        raise NotImplementedError

    def encode(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> memory (B, L, N, D); plain: as in `features`."""
        return self.fuse(self.features(views, plain))

    def forward(
        self,
        views: Tensor | None,
        tokens: Tensor,
        plain: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits: views (B, 4, 3, H, W) uint8, tokens (B, T) -> (B, T, V).

        tokens (B, K, T), K captions of each pair, -> (B, K, T, V); a pair is encoded once for all of them.
        plain: as in `features`. features: those of the pairs, in place of views.
        """
        grouped = tokens if tokens.dim() == 3 else tokens.unsqueeze(1)
        logits = self.decoder(grouped, self._memory(views, plain, features))
        return logits.reshape(*tokens.shape, -1)

    def _memory(self, views: Tensor | None, plain: Tensor | None, features: Tensor | None) -> Tensor:
        return self.encode(views, plain) if features is None else self.fuse(features.to(self.mean.dtype))

    def parts(self) -> dict[str, nn.Module]:
        """The modules that the optimiser groups. "decoder" decays on a plateau (`train.decay`), "fusion" may
        be left out of clipping (`train.clip_fusion`)."""
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
        """Beam search: views (B, 4, 3, H, W) uint8 -> the `best` answers of each pair, the best first.

        plain, features: as in `forward`. Autocast applies to the encoding alone. The decoder, a small part of
        the work, stays in float32: in bf16, rounding would choose between captions that are nearly as likely
        (91.5 % of the demo's captions equal those of float32 then, 99.2 % this way).
        """
        memory = self._memory(views, plain, features)
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

    def explain(self, views: Tensor, tokens: Tensor) -> WordAttention | None:
        """What was looked at to choose the word after each of `tokens` (B, K, T), which begin with `<start>`;
        views (B, 4, 3, H, W) uint8. None in models that cannot tell."""
        return None

    def mixed_features(self, clean: Tensor, views: Tensor, differs: Tensor) -> Tensor:
        """`features` of perturbed views (B, 4, 3, H, W), given those of the clean ones.

        differs (B, 4): views that are not the clean ones. Models that encode views apart can reuse `clean`.
        """
        return self.features(views)


def inputs_of(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor | None]:
    """The pairs of a batch of data/dataset.py as arguments of `Captioner.forward` and `caption`."""
    if "features" in batch:
        return {"views": None, "features": batch["features"].to(device, non_blocking=True)}
    return {"views": views_of(batch, device), "plain": batch.get("plain")}
