"""Checkpoints: plain tensors, numbers, strings and lists, so that they load with torch's
`weights_only=True`."""

import random
import re
from _compat_pickle import IMPORT_MAPPING
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import nn

from configs import Config, ModelConfig, from_dict
from data.atomic_write import atomic_write, cannot_write
from data.vocabulary import Vocabulary
from models import build_model
from models.change_detector import ChangeDetector
from models.folding import fold_batchnorm
from models.mmodalcc import MModalCC
from models.safe_load import safe_load

FORMAT = "mmodalcc-1"
ARCHITECTURE = (  # settings that weights belong to
    "name", "trunk", "normalisation", "grid", "width", "heads", "feedforward", "fusion_layers", "modalities",
    "layers", "sharing", "cmca", "udca", "mgca",
)  # fmt: skip


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; OSError on a full disk, which leaves an older file in its place unchanged."""
    with atomic_write(path) as partial:
        try:
            torch.save({"format": FORMAT, **content}, partial)
        except RuntimeError as error:  # torch's writer reports a full disk so
            if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                raise
            raise cannot_write(path, str(error).partition("\n")[0]) from error


def load_checkpoint(path: str | Path, *, mmap: bool = True) -> dict[str, Any]:
    """A checkpoint's content on the CPU: model (state dict), config, vocabulary (words), epoch, scores and,
    from training, the optimiser's and the generators' states. Raises FileNotFoundError, ValueError for a file
    of another kind.

    mmap: read tensors from the file when they are used; False where the file may be replaced meanwhile.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found: train one with train.py first")
    try:
        content = safe_load(path, mmap=mmap and is_zipfile(path))
    except Exception as error:  # a foreign or damaged file makes the unpickler fail in a dozen ways
        raise ValueError(
            f"{path} is no checkpoint of this code ({why_unreadable(error)}): give a best.pt or last.pt"
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this code: format {found!r} where {FORMAT!r} is read")
    return content


def why_unreadable(error: Exception) -> str:
    """What torch's unpickler says at length: the class or function that it refused, or what went wrong."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    if stranger := re.search(r"GLOBAL (\S+)", text):
        module, _, name = stranger[1].rpartition(".")
        module = module or "builtins"
        return f"it holds {IMPORT_MAPPING.get(module, module)}.{name}"  # pickles write Python 2's names
    return text.strip().partition("\n")[0] or type(error).__name__


def restore_model(content: dict[str, Any], *, fold: bool = True) -> tuple[MModalCC, Vocabulary]:
    """The captioning model and the vocabulary of a loaded checkpoint, in eval mode; ValueError where it holds
    another network.

    fold: put BatchNorm into the convolutions (`fold_batchnorm`), for inference; False keeps the model as it
    was trained.
    """
    if (name := model_name(content)) != "mmodalcc":
        raise ValueError(
            f"--checkpoint must hold a captioning model, got a {name}: caption.py takes it as --detector, "
            "eval.py scores it, tools/detect_maps.py writes its maps"
        )
    vocabulary = Vocabulary(content["vocabulary"])
    return _restore(content, len(vocabulary), fold), vocabulary


def restore_detector(content: dict[str, Any]) -> ChangeDetector:
    """The change detector of a loaded checkpoint, in eval mode; ValueError where it holds another network."""
    if (name := model_name(content)) != "change_detector":
        raise ValueError(
            f"a change detector is needed, the checkpoint holds {name}: train one with "
            "train.py --config configs/change_detector.yaml"
        )
    return _restore(content, 0, fold=True)


def open_detector(path: Path, size: tuple[int, int], device: torch.device) -> ChangeDetector:
    """A checkpoint's change detector, to find maps for a captioning model that learnt on images of `size`
    (H, W); ValueError where it learnt on another size or the checkpoint holds another network."""
    content = load_checkpoint(path)
    detector = restore_detector(content).to(device)
    if tuple(content["image_size"]) != size:
        raise ValueError(
            f"--detector {path} must have learnt on {size} images as the captioning model did, got "
            f"{tuple(content['image_size'])}: train both on the same input files"
        )
    return detector


def model_name(content: dict[str, Any]) -> str:
    """`model.name` of a loaded checkpoint."""
    return Config(**from_dict(content["config"])).model.name


def _restore(content: dict[str, Any], vocabulary_size: int, fold: bool) -> MModalCC | ChangeDetector:
    config = Config(**from_dict(content["config"]))
    with torch.device("meta"):  # no random weights, which take longer to draw than a caption to find
        model = build_model(config.model, vocabulary_size, pretrained=False)
    model.load_state_dict(content["model"], assign=True)
    model.eval()
    if fold:
        fold_batchnorm(model)
    return model.to(memory_format=torch.channels_last)


def start_from(path: str | Path, model: nn.Module, config: ModelConfig, vocabulary: Vocabulary) -> None:
    """Give the model of `config` a checkpoint's weights; ValueError where words or settings differ."""
    content = load_checkpoint(path)
    stored = from_dict(content["config"])["model"]  # an older one lacks newer settings: their defaults
    for name in ARCHITECTURE:
        given, wanted = getattr(stored, name), getattr(config, name)
        if given != wanted:
            raise ValueError(
                f"train.start_from: {path} was made with model.{name} {given}, not {wanted}: use the same"
            )
    if config.name == "mmodalcc" and tuple(content["vocabulary"]) != vocabulary.words:
        raise ValueError(
            f"train.start_from: {path} has other words ({len(content['vocabulary'])}) than the data "
            f"({len(vocabulary)}): use input files with the same vocabulary"
        )
    model.load_state_dict(content["model"])


def random_state() -> dict[str, Any]:
    """The state of every random generator, as plain content for a checkpoint."""
    algorithm, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [algorithm, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Inverse of `random_state`; a GPU's state is left alone where either side has none."""
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
