"""The networks; `build_model` is the one place where configuration meets constructors."""

import os

import torch

from configs import ModelConfig
from models.decoder import Decoder
from models.encoder import Encoder, load_trunk, trunk_weights
from models.fusion import Fusion
from models.mmodalcc import MModalCC


def build_model(config: ModelConfig, vocabulary_size: int, *, pretrained: bool = True) -> MModalCC:
    """MModalCC with new weights, its trunks as `config.weights` says; pretrained=False where a checkpoint
    follows."""
    encoders = [
        Encoder(
            trunk=config.trunk,
            grid=config.grid,
            trained_from=config.trained_from,
            batchnorm=config.trunk_batchnorm,
        )
        for _ in range(2)
    ]
    if pretrained and config.weights != "none":
        state = trunk_weights(config.trunk, config.weights)
        for encoder in encoders:
            load_trunk(encoder, state, config.weights)
    fusion = Fusion(
        channels=encoders[0].channels,
        grid=config.grid,
        width=config.width,
        heads=config.heads,
        feedforward=config.feedforward,
        fusion_layers=config.fusion_layers,
        layers=config.layers,
        sharing=config.sharing,
        block_batchnorm=config.block_batchnorm,
        dropout=config.dropout,
    )
    decoder = Decoder(
        vocabulary_size=vocabulary_size,
        max_length=config.max_length,
        width=2 * config.width,  # the two dates side by side
        heads=config.heads,
        feedforward=2 * config.feedforward,
        sharing=config.sharing,
        dropout=config.dropout,
        embedding_dropout=config.embedding_dropout,
    )
    model = MModalCC(
        encoder_rgb=encoders[0],
        encoder_sem=encoders[1],
        fusion=fusion,
        decoder=decoder,
        normalisation=config.normalisation,
    )
    return model.to(memory_format=torch.channels_last)


def pick_device(name: str) -> torch.device:
    """ "auto": the GPU where there is one (each process its own), else the CPU; or torch's own name."""
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name} cannot be used ({str(error).splitlines()[0]}): give auto or cpu"
        ) from None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward pass runs in `precision`: "float32", "tf32" or "bf16".

    It also says, from here on, whether a GPU may round the factors of float32 products to TF32.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
