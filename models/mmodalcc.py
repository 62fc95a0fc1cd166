"""MModalCC (Karaca et al., IEEE JSTARS 2025): two Siamese encoders, fusion, and a decoder with MGCA."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from data.errors import UserError
from data.settings import Probability
from data.views import plain_colours
from models.captioner import Captioner, CaptionerSettings, WordAttention
from models.decoder import Decoder
from models.encoder import Encoder
from models.fusion import Fusion
from models.trunks import training_only

DATES = {"rgb": slice(0, 2), "sem": slice(2, 4)}  # a modality's indices among the views


@dataclass(frozen=True)
class Settings(CaptionerSettings):
    """The architecture of the paper, and where the authors' code differs from it."""

    name: str = "mmodalcc"
    """The model: a file of models/."""
    block_batchnorm: Literal["frozen", "live"] = training_only("live")
    """BatchNorm of the convolutional blocks in training."""
    grid: PositiveInt = 14
    """Cells a side of the pooled feature map."""
    width: PositiveInt = 512
    """Channels of the fusion; the decoder has twice as many."""
    heads: PositiveInt = 8
    """Attention heads."""
    feedforward: PositiveInt = 2048
    """Inner width of the fusion's feed-forward networks; the decoder's is twice as large."""
    fusion_layers: PositiveInt = 2
    """Layers of CMCA and UDCA."""
    modalities: Literal["both", "rgb", "sem"] = "both"
    """Inputs: images and maps, or one of them."""
    layers: Literal["chained", "parallel"] = "chained"
    """Input of a fusion layer: the previous layer (paper) or the trunk's features (authors' code)."""
    sharing: Literal["separate", "shared"] = "separate"
    """Weights of each direction and modality: their own (paper) or shared (authors' code)."""
    cmca: bool = True
    """Cross-Modal Cross Attention."""
    udca: bool = True
    """Unimodal Difference Cross Attention."""
    mgca: bool = True
    """Multimodal Gated Cross Attention; without it, ordinary cross-attention."""
    dropout: Probability = training_only(0.5)
    """Dropout of the fusion and the decoder."""
    embedding_dropout: Probability = training_only(0.1)
    """Dropout of the word embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 or self.width % self.heads:
            raise UserError(
                f"model.width must be even and a multiple of model.heads: got {self.width} and {self.heads}"
            )

    @property
    def has_live_batchnorm(self) -> bool:
        return super().has_live_batchnorm or self.block_batchnorm == "live"


class MModalCC(Captioner):
    """One encoder per modality; memory (B, M, N, 2D) of M modalities."""

    Settings = Settings

    def __init__(self, settings: Settings, vocabulary_size: int) -> None:
        super().__init__(settings)
        both = settings.modalities == "both"
        self.modalities = ("rgb", "sem") if both else (settings.modalities,)
        self.views = tuple(f"{name}_{date}" for name in self.modalities for date in "ab")
        encoders = {name: Encoder(settings, grid=settings.grid) for name in self.modalities}
        for name, encoder in encoders.items():
            self.add_module(f"encoder_{name}", encoder)
        self.fusion = Fusion(
            modalities=self.modalities,
            channels=encoders[self.modalities[0]].channels,
            grid=settings.grid,
            width=settings.width,
            heads=settings.heads,
            feedforward=settings.feedforward,
            fusion_layers=settings.fusion_layers,
            layers=settings.layers,
            sharing=settings.sharing,
            cmca=settings.cmca,
            udca=settings.udca,
            block_batchnorm=settings.block_batchnorm,
            dropout=settings.dropout,
        )
        self.decoder = Decoder(
            modalities=self.modalities,
            vocabulary_size=vocabulary_size,
            max_length=settings.max_length,
            width=2 * settings.width,  # the two dates side by side
            heads=settings.heads,
            feedforward=2 * settings.feedforward,
            sharing=settings.sharing,
            mgca=settings.mgca,
            dropout=settings.dropout,
            embedding_dropout=settings.embedding_dropout,
        )

    def encoders(self) -> Iterator[tuple[Encoder, slice]]:
        """Each modality's encoder and the indices of its dates among the views."""
        return ((self.get_submodule(f"encoder_{name}"), DATES[name]) for name in self.modalities)

    def features(self, views: Tensor, plain: Tensor | None = None) -> Tensor:
        """The trunks of the M modalities: views (B, 4, 3, H, W) uint8 -> (B, 2M, C, grid, grid)."""
        plain = plain_colours(views) if plain is None else plain
        images = self.normalised(views)
        features = [encoder(images[:, dates], plain[:, dates]) for encoder, dates in self.encoders()]
        return torch.cat(features, dim=1)

    def fuse(self, features: Tensor) -> Tensor:
        """features (B, 2M, C, grid, grid) -> memory (B, M, N, 2D)."""
        return self.fusion(*features.unflatten(1, (-1, 2)).unbind(1))

    @torch.inference_mode()
    def explain(self, views: Tensor, tokens: Tensor) -> WordAttention:
        return self.decoder.attention(tokens, self.encode(views))

    def mixed_features(self, clean: Tensor, views: Tensor, differs: Tensor) -> Tensor:
        """Only views that differ go through a trunk; the others' features are the clean ones."""
        features = clean.clone()
        for modality, (encoder, dates) in zip(features.split(2, dim=1), self.encoders(), strict=True):
            altered = differs[:, dates]
            if altered.any():
                images = views[:, dates][altered].unsqueeze(1)  # (n, 1, 3, H, W)
                modality[altered] = encoder(self.normalised(images), plain_colours(images)).squeeze(1)
        return features


MODEL = MModalCC
