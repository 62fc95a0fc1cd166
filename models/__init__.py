"""The models, by name: `model.name: NAME` is the class MODEL of models/NAME.py.

A captioning model subclasses `Captioner` (models/captioner.py); docs/extending.md shows an example.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError
from data.palette import SECOND, Palette

if TYPE_CHECKING:  # a command that builds no model need not import torch
    from torch import nn

    from models.trunks import TrunkSettings


def model_names() -> list[str]:
    """The modules of this package that define MODEL."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [path.stem for path in files if re.search(r"^MODEL = ", path.read_text(encoding="utf-8"), re.M)]


def model_class(name: str) -> "type[nn.Module]":
    """The class of a model; UserError with the list of models for an unknown name."""
    names = model_names()
    if name not in names:
        raise UserError(f"model.name must be one of {', '.join(names)}: got {name}")
    return import_module(f"models.{name}").MODEL


def build_model(
    settings: "TrunkSettings", vocabulary_size: int, *, palette: Palette = SECOND, pretrained: bool = True
) -> "nn.Module":
    """A model with random weights, except for the trunks, whose weights `settings.weights` names.

    pretrained: False leaves the trunks random, too, for weights of a checkpoint. A change detector ignores
    vocabulary_size, a captioning model palette.
    """
    import torch

    from models.trunks import Trunk

    kind = model_class(settings.name)
    if settings.task == "detection":
        model = kind(settings, vocabulary_size, palette)
    else:
        model = kind(settings, vocabulary_size)
    if pretrained:
        for module in model.modules():
            if isinstance(module, Trunk):
                module.load_pretrained(settings.weights)
    return model.to(memory_format=torch.channels_last)
