"""MModalCC (Karaca et al., IEEE JSTARS 2025): two Siamese encoders, fusion, decoder; here they are only wired
up."""

import torch
from torch import Tensor, nn

from models.beam_search import Hypothesis, beam_search
from models.decoder import Decoder, WordAttention
from models.encoder import Encoder
from models.fusion import Fusion

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MModalCC(nn.Module):
    """Views of a pair in the order rgb t0, rgb t1, map t0, map t1 -> a sentence.

    normalisation: "imagenet" on all four views (paper), or "none", plain 0..1 values (released).
    """

    def __init__(
        self,
        *,
        encoder_rgb: Encoder,
        encoder_sem: Encoder,
        fusion: Fusion,
        decoder: Decoder,
        normalisation: str,
    ) -> None:
        super().__init__()
        self.encoder_rgb = encoder_rgb
        self.encoder_sem = encoder_sem
        self.fusion = fusion
        self.decoder = decoder
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if normalisation == "imagenet" else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device="cpu").view(3, 1, 1), persistent=False)

    def features(self, views: Tensor) -> Tensor:
        """Both trunks: views (B, 4, 3, H, W) uint8 -> (B, 4, C, grid, grid)."""
        images = (views.to(self.mean.dtype) / 255 - self.mean) / self.std
        return torch.cat([self.encoder_rgb(images[:, :2]), self.encoder_sem(images[:, 2:])], dim=1)

    def encode(self, views: Tensor) -> Tensor:
        """views (B, 4, 3, H, W) uint8 -> memory (B, 2, N, 2D). Floating-point views are taken as their
        `features`."""
        features = views.to(self.mean.dtype) if views.is_floating_point() else self.features(views)
        return self.fusion(features[:, :2], features[:, 2:])

    def forward(self, views: Tensor, tokens: Tensor) -> Tensor:
        """Teacher-forced logits: views (B, 4, 3, H, W) uint8, tokens (B, T) -> (B, T, V).

        tokens (B, K, T), K captions of each pair, -> (B, K, T, V); a pair is encoded once for all of them.
        """
        grouped = tokens if tokens.dim() == 3 else tokens.unsqueeze(1)
        logits = self.decoder(grouped, self.encode(views))
        return logits.reshape(*tokens.shape, -1)

    @torch.inference_mode()
    def caption(
        self, views: Tensor, *, start: int, end: int, beam_size: int, best: int = 1
    ) -> list[list[Hypothesis]]:
        """Beam search: views (B, 4, 3, H, W) uint8 -> the `best` answers of each pair, the best first."""
        steps = len(self.decoder.positions)
        return beam_search(
            self.decoder,
            self.encode(views),
            start=start,
            end=end,
            beam_size=beam_size,
            max_steps=steps,
            best=best,
        )

    @torch.inference_mode()
    def attention(self, views: Tensor, tokens: Tensor) -> WordAttention:
        """What was looked at to choose the word after each of `tokens` (B, K, T), which begin with `<start>`;
        views (B, 4, 3, H, W) uint8."""
        return self.decoder.attention(tokens, self.encode(views))
