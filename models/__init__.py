"""The networks; `build_model` is the one place where configuration meets constructors."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from configs import ModelConfig
from models.change_detector import ChangeDecoder, ChangeDetector
from models.decoder import Decoder
from models.encoder import Encoder, Trunk, load_trunk, trunk_weights
from models.fusion import Fusion
from models.mmodalcc import MModalCC


def build_model(
    config: ModelConfig, vocabulary_size: int, *, pretrained: bool = True
) -> MModalCC | ChangeDetector:
    """The network that `config.name` names with new weights, its trunks' as `config.weights` says.

    pretrained=False where a checkpoint follows. A change detector makes no use of vocabulary_size.
    """
    is_detector = config.name == "change_detector"
    model = build_detector(config) if is_detector else build_captioner(config, vocabulary_size)
    if pretrained and config.weights != "none":
        state = trunk_weights(config.trunk, config.weights)
        for module in model.modules():
            if isinstance(module, Trunk):
                load_trunk(module, state, config.weights)
    return model.to(memory_format=torch.channels_last)


def build_detector(config: ModelConfig) -> ChangeDetector:
    trunk = Trunk(name=config.trunk, trained_from=config.trained_from, batchnorm=config.trunk_batchnorm)
    decoder = ChangeDecoder(channels=trunk.channels, width=config.width)
    return ChangeDetector(trunk=trunk, decoder=decoder, normalisation=config.normalisation)


def build_captioner(config: ModelConfig, vocabulary_size: int) -> MModalCC:
    modalities = ("rgb", "sem") if config.modalities == "both" else (config.modalities,)
    encoders = {
        name: Encoder(
            trunk=config.trunk,
            grid=config.grid,
            trained_from=config.trained_from,
            batchnorm=config.trunk_batchnorm,
        )
        for name in modalities
    }
    fusion = Fusion(
        modalities=modalities,
        channels=encoders[modalities[0]].channels,
        grid=config.grid,
        width=config.width,
        heads=config.heads,
        feedforward=config.feedforward,
        fusion_layers=config.fusion_layers,
        layers=config.layers,
        sharing=config.sharing,
        cmca=config.cmca,
        udca=config.udca,
        block_batchnorm=config.block_batchnorm,
        dropout=config.dropout,
    )
    decoder = Decoder(
        modalities=modalities,
        vocabulary_size=vocabulary_size,
        max_length=config.max_length,
        width=2 * config.width,  # the two dates side by side
        heads=config.heads,
        feedforward=2 * config.feedforward,
        sharing=config.sharing,
        mgca=config.mgca,
        dropout=config.dropout,
        embedding_dropout=config.embedding_dropout,
    )
    return MModalCC(
        encoders=encoders,
        fusion=fusion,
        decoder=decoder,
        normalisation=config.normalisation,
    )


def pick_device(name: str) -> torch.device:
    """The device that a setting names: "auto" (a GPU where there is one, else the CPU) or torch's own name.

    "auto" and "cuda" give each process of a machine a GPU of its own (`own_gpu`). A GPU becomes torch's
    current one, to which random states and pinned memory belong. ValueError where the device cannot be used;
    a warning where "auto" takes the CPU although the machine has an NVIDIA GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and Path("/proc/driver/nvidia/gpus").is_dir():
            print(
                "WARNING: this machine has an NVIDIA GPU that this torch cannot use, running on the CPU: "
                f"torch {torch.__version__} needs a driver for CUDA {torch.version.cuda} (see nvidia-smi)",
                file=sys.stderr,
            )
    if name == "cuda" and torch.cuda.is_available():
        name = own_gpu(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count())
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name} cannot be used ({str(error).splitlines()[0]}): give auto or cpu"
        ) from None
    if device.type == "cuda":
        check_architecture(torch.cuda.get_device_capability(device), torch.cuda.get_arch_list())
        torch.cuda.set_device(device)
    return device


def own_gpu(local_rank: int, visible: int) -> str:
    """The GPU of a process: one for each, or the only visible one where a scheduler gives each process its
    own."""
    if visible > 1 and local_rank >= visible:
        raise ValueError(
            f"each process needs a GPU of its own, process {local_rank} sees {visible}: start as many "
            "processes on a machine as it has GPUs"
        )
    return f"cuda:{local_rank % visible}"


def check_architecture(capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """ValueError where torch has no code for a GPU, given its compute capability and torch's architectures.

    Code of one major version runs on later minor ones (sm_80 on 8.6), and PTX (compute_90) on all later GPUs.
    """
    major, minor = capability
    for name in built_for:
        kind, _, digits = name.partition("_")
        own = int(digits.rstrip("af")[:-1]), int(digits.rstrip("af")[-1])
        fits = own <= capability if kind == "compute" else own[0] == major and own[1] <= minor
        if fits:
            return
    raise ValueError(
        f"this GPU has compute capability {major}.{minor}, torch {torch.__version__} is built for "
        f"{', '.join(built_for)}: install a torch for this GPU, or give --train.device cpu"
    )
