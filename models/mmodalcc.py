"""MModalCC (Karaca et al., IEEE JSTARS 2025): two Siamese encoders, fusion, decoder; here they are only wired
up."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from data.views import plain_colours
from models.beam_search import Hypothesis, beam_search
from models.decoder import Decoder, WordAttention
from models.encoder import Encoder, pixel_statistics
from models.fusion import Fusion
from models.precision import plain_float32

DATES = {"rgb": slice(0, 2), "sem": slice(2, 4)}  # a modality's places among the views


class MModalCC(nn.Module):
    """Views of a pair in the order rgb t0, rgb t1, map t0, map t1 -> a sentence.

    encoders: by modality, "rgb" and "sem" or one of them, whose views alone are then looked at.
    normalisation: "imagenet" on all four views (paper), or "none", plain 0..1 values (released).
    """

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        fusion: Fusion,
        decoder: Decoder,
        normalisation: str,
    ) -> None:
        super().__init__()
        self.modalities = tuple(encoders)
        for name, encoder in encoders.items():
            self.add_module(f"encoder_{name}", encoder)
        self.fusion = fusion
        self.decoder = decoder
        mean, std = pixel_statistics(normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def encoders(self) -> Iterator[tuple[Encoder, slice]]:
        """Each modality's encoder and the places of its dates among the views."""
        return ((self.get_submodule(f"encoder_{name}"), DATES[name]) for name in self.modalities)

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """The trunks of the M modalities: views (B, 4, 3, H, W) uint8 -> (B, 2M, C, grid, grid).

        plain (B, 4): `data.views.plain_colours` of the views, computed where absent, which waits for a GPU.
        """
        plain = plain_colours(views) if plain is None else plain
        images = self.normalised(views)
        found = [encoder(images[:, dates], plain[:, dates]) for encoder, dates in self.encoders()]
        return torch.cat(found, dim=1)

    def normalised(self, views: Tensor) -> Tensor:
        """What the trunks read of views (..., 3, H, W) uint8: floats of the same shape."""
        return (views.to(self.mean.dtype) / 255 - self.mean) / self.std

    def encode(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> memory (B, M, N, 2D). Floating-point views are taken as their
        `features`; plain as there."""
        features = views.to(self.mean.dtype) if views.is_floating_point() else self.features(views, plain)
        return self.fusion(*features.unflatten(1, (-1, 2)).unbind(1))

    def forward(self, views: Tensor, tokens: Tensor, plain: Tensor | None = None) -> Tensor:
        """Teacher-forced logits: views (B, 4, 3, H, W) uint8, tokens (B, T) -> (B, T, V).

        tokens (B, K, T), K captions of each pair, -> (B, K, T, V); a pair is encoded once for all of them.
        plain: as in `features`.
        """
        grouped = tokens if tokens.dim() == 3 else tokens.unsqueeze(1)
        logits = self.decoder(grouped, self.encode(views, plain))
        return logits.reshape(*tokens.shape, -1)

    @torch.inference_mode()
    def caption(
        self,
        views: Tensor,
        *,
        start: int,
        end: int,
        beam_size: int,
        best: int = 1,
        plain: Tensor | None = None,
    ) -> list[list[Hypothesis]]:
        """Beam search: views (B, 4, 3, H, W) uint8 -> the `best` answers of each pair, the best first; plain
        as in `features`.

        Autocast and TF32 take in the encoding alone. The decoder, little work, stays in float32: in bf16 a
        rounding would choose between captions that are nearly as likely (91.5 % of the demo's captions stay
        those of float32 then, 99.2 % so).
        """
        memory = self.encode(views, plain)
        with plain_float32(memory.device):
            return beam_search(
                self.decoder,
                memory.to(self.mean.dtype),
                start=start,
                end=end,
                beam_size=beam_size,
                max_steps=len(self.decoder.positions),
                best=best,
            )

    @torch.inference_mode()
    def attention(self, views: Tensor, tokens: Tensor) -> WordAttention:
        """What was looked at to choose the word after each of `tokens` (B, K, T), which begin with `<start>`;
        views (B, 4, 3, H, W) uint8."""
        return self.decoder.attention(tokens, self.encode(views))
