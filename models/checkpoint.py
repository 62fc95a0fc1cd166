"""Checkpoints: plain tensors, numbers, strings and lists, so that they load with torch's
`weights_only=True`."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

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
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} is no checkpoint of this code ({reason}): give a best.pt or last.pt"
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this code: format {found!r} where {FORMAT!r} is read")
    return content


def restore_model(content: dict[str, Any]) -> tuple[MModalCC, Vocabulary]:
    """The model and the vocabulary of a loaded checkpoint, in eval mode."""
    vocabulary = Vocabulary(content["vocabulary"])
    config = Config(**from_dict(content["config"]))
    model = build_model(config.model, len(vocabulary), pretrained=False)
    model.load_state_dict(content["model"])
    return model.eval(), vocabulary
