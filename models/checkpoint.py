"""Checkpoints: plain tensors, numbers, strings and lists, so that they load with torch's
`weights_only=True`."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import Config, from_dict
from data.vocabulary import Vocabulary
from models import build_model
from models.mmodalcc import MModalCC

FORMAT = "mmodalcc-1"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write beside the target and rename when whole, so that a reader finds the old file or the new one."""
    partial = path.with_suffix(".partial")
    torch.save({"format": FORMAT, **content}, partial)
    os.replace(partial, path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU: model (state dict), config, vocabulary (words), epoch, scores and,
    from training, the optimiser's and the generators' states. Raises FileNotFoundError, ValueError for a file
    of another kind.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found: train one with train.py first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign or damaged file makes the unpickler fail in a dozen ways
        raise ValueError(
            f"{path} is no checkpoint of this code ({why_unreadable(error)}): give a best.pt or last.pt"
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this code: format {found!r} where {FORMAT!r} is read")
    return content


def why_unreadable(error: Exception) -> str:
    """What torch's unpickler says in many lines: the class or function that it refused, else what went wrong."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    if stranger := re.search(r"GLOBAL (\S+)", text):
        name = stranger[1] if "." in stranger[1] else f"builtins.{stranger[1]}"
        return f"it holds {name}"
    return text.strip().partition("\n")[0] or type(error).__name__


def misfit(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str | None:
    """The first difference in names, shapes or types: "lacks X", "has X besides", "has X as ..."; None if they fit."""
    for name in wanted.keys() - given.keys():
        return f"lacks {name}"
    for name in given.keys() - wanted.keys():
        return f"has {name} besides"
    for name, tensor in wanted.items():
        if (given[name].shape, given[name].dtype) != (tensor.shape, tensor.dtype):
            found, right = (f"{tuple(t.shape)} {t.dtype}" for t in (given[name], tensor))
            return f"has {name} as {found}, not {right}"
    return None


def restore_model(content: dict[str, Any]) -> tuple[MModalCC, Vocabulary]:
    """The model and the vocabulary of a loaded checkpoint, in eval mode."""
    vocabulary = Vocabulary(content["vocabulary"])
    config = Config(**from_dict(content["config"]))
    model = build_model(config.model, len(vocabulary), pretrained=False)
    model.load_state_dict(content["model"])
    return model.eval(), vocabulary


def start_from(path: str | Path, model: MModalCC, vocabulary: Vocabulary) -> None:
    """Give `model` the weights of a checkpoint; ValueError where its words or its parameters are others."""
    content = load_checkpoint(path)
    if tuple(content["vocabulary"]) != vocabulary.words:
        raise ValueError(
            f"train.start_from: {path} has other words ({len(content['vocabulary'])}) than the data "
            f"({len(vocabulary)}): use input files with the same vocabulary"
        )
    if difference := misfit(model.state_dict(), content["model"]):
        raise ValueError(f"train.start_from: {path} {difference}: give the model settings that it was made with")
    model.load_state_dict(content["model"])
