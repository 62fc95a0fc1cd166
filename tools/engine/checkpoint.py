"""Checkpoints: plain tensors, numbers, strings and lists, so that they load with torch's
`weights_only=True`."""

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from configs import Config, architecture
from configs.command_line import CommandLine, early_option, read_stored
from data.atomic_write import atomic_write, cannot_write
from data.errors import UserError
from data.palette import MASK_CLASSES
from data.vocabulary import Vocabulary
from models import build_model
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.fuse_batchnorm import fold_batchnorm
from models.safe_load import safe_load, why_unreadable
from models.trunks import TrunkSettings

FORMAT = "mmodalcc-1"
TEXTS = ("vocabulary", "common_captions", "train_captions", "no_change")  # parts that are lists of texts


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; OSError on a full disk, which leaves an older file in its place unchanged."""
    kept = {name: part for name, part in content.items() if name != "path"}
    with atomic_write(path) as partial:
        try:
            torch.save({"format": FORMAT, **kept}, partial)
        except RuntimeError as error:  # torch's writer reports a full disk so
            if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                raise
            raise cannot_write(path, str(error).partition("\n")[0]) from error


def load_checkpoint(path: str | Path, *, training: bool = False) -> dict[str, Any]:
    """A checkpoint's content on the CPU: model (state dict), config, image_size, vocabulary (words), epoch,
    scores; from last.pt also training (the states of the optimiser and the generators); and path.

    Every part but the weights is checked here, the weights by `load_weights`. training: the file must be a
    last.pt; it is read at once, for it will be replaced. Otherwise tensors are read when they are used.
    Raises FileNotFoundError; UserError for a file of another kind and for content that this version cannot
    use.
    """
    if Path(path).is_dir():
        raise UserError(f"checkpoint {path} is a folder: name the best.pt in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found: train one with train.py first")
    try:
        content = safe_load(path, mmap=not training and is_zipfile(path))
    except Exception as error:  # a foreign or damaged file makes the unpickler fail in a dozen ways
        raise UserError(
            f"{path} is not a checkpoint of this project ({why_unreadable(error)}): give a best.pt or "
            "last.pt of train.py"
        ) from None
    _check_format(path, content)
    content["path"] = str(path)
    try:
        _check_parts(content)
        if training:
            _check_training(content)
    except ValueError as error:
        raise misfit(content, str(error)) from None
    return content


def misfit(content: dict[str, Any], reason: str) -> UserError:
    """The error for a checkpoint whose content this version of the code cannot use."""
    return UserError(
        f"{path_of(content)} does not fit this version of the code, {reason}: give another best.pt or "
        "last.pt, or use the version that wrote it"
    )


def path_of(content: dict[str, Any]) -> str:
    """The file that a loaded checkpoint is from; "the checkpoint" for content that is not from a file."""
    return content.get("path", "the checkpoint")


def _check_format(path: str | Path, content: Any) -> None:
    found, kind = None, f"it holds a {type(content).__name__}"
    if isinstance(content, dict):
        found = content.get("format")
        weights = content and all(isinstance(part, Tensor) for part in content.values())
        kind = "it holds weights alone" if weights else f"its format is {found!r}, expected {FORMAT!r}"
    if isinstance(found, str) and re.fullmatch(r"mmodalcc-\d+", found) and found != FORMAT:
        raise UserError(
            f"{path} was written by a newer version of this code (format {found!r}, this version reads "
            f"{FORMAT!r}): update the code"
        )
    if found != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this project ({kind}): give a best.pt or last.pt of train.py"
        )


def _check_parts(content: dict[str, Any]) -> None:
    """UserError names the first part that is missing or that has a wrong type or value."""
    _require(content, {"model": dict, "config": dict, "image_size": list})
    for part in TEXTS:
        texts = content.get(part, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"its part {part} is not a list of texts")
    constants = content.get("train_constants", {})
    if not isinstance(constants, dict) or not all(isinstance(text, str) for text in constants.values()):
        raise UserError("its part train_constants is not a text for each part of the pairs")
    if content.get("train_captions") and "all" not in constants:
        raise UserError("its part train_constants has no caption for all pairs")
    if (mask_class := content.get("mask_class")) not in (None, *MASK_CLASSES):
        raise UserError(f"its mask_class is not one of {', '.join(MASK_CLASSES)} but {mask_class!r:.50}")
    if read_stored(content["config"]).model.task == "captioning":
        _require(content, {"vocabulary": list})
        Vocabulary(content["vocabulary"])
    size = content["image_size"]
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise UserError(f"its image_size is not [height, width] in pixels but {size}")


def _check_training(content: dict[str, Any]) -> None:
    """UserError names what --resume misses; what the parts hold is checked where it is used."""
    if "training" not in content:
        raise UserError("it has no training state, which only last.pt has")
    _require(content, {"training": dict, "epoch": int})
    _require(content["training"], {"optimiser": dict, "progress": dict, "random": list})
    if not isinstance(content["training"].get("data"), dict | str):  # older ones: of the training file alone
        raise UserError("its part data, the fingerprints of the data files, is missing")


def _require(parts: dict[str, Any], types: dict[str, type]) -> None:
    for name, expected in types.items():
        if name not in parts:
            raise UserError(f"its part {name} is missing")
        if not isinstance(parts[name], expected):
            raise UserError(
                f"its part {name} is a {type(parts[name]).__name__}, expected a {expected.__name__}"
            )


def restore_model(content: dict[str, Any], *, fold: bool = True) -> tuple[Captioner, Vocabulary]:
    """The captioning model and the vocabulary of a loaded checkpoint, in eval mode; UserError where it holds
    another network or weights that do not fit.

    fold: put BatchNorm into the convolutions (`fold_batchnorm`), for inference; False keeps the model as it
    was trained.
    """
    settings = stored_config(content).model
    if settings.task != "captioning":
        raise UserError(
            f"a captioning model is needed, {path_of(content)} holds {settings.name}, which detects "
            "changes: give the best.pt of a captioning run"
        )
    vocabulary = Vocabulary(content["vocabulary"])
    return _restore(content, len(vocabulary), fold), vocabulary


def restore_detector(content: dict[str, Any]) -> ChangeDetector:
    """The change detector of a loaded checkpoint, in eval mode; UserError where it holds another network or
    weights that do not fit."""
    settings = stored_config(content).model
    if settings.task != "detection":
        raise UserError(
            f"a change detector is needed, {path_of(content)} holds {settings.name}: train one with "
            "train.py --config configs/change_detector.yaml"
        )
    return _restore(content, 0, fold=True)


def open_detector(path: Path, size: tuple[int, int], device: torch.device) -> ChangeDetector:
    """A checkpoint's change detector, to find maps for a captioning model that learnt on images of `size`
    (H, W); UserError where it learnt on another size or the checkpoint holds another network."""
    content = load_checkpoint(path)
    detector = restore_detector(content).to(device)
    if tuple(content["image_size"]) != size:
        raise UserError(
            f"--detector {path} must have learnt on {size} images as the captioning model did, got "
            f"{tuple(content['image_size'])}: train both on the same input files"
        )
    return detector


def stored_config(content: dict[str, Any]) -> Config:
    """The configuration of a loaded checkpoint."""
    return Config.from_dict(content["config"])


def read_over_checkpoint(
    parser: CommandLine, argv: Sequence[str] | None, default: Callable[[], dict[str, Any]] = dict
) -> tuple[Config, Namespace, dict[str, Any]]:
    """A command line over the settings of the checkpoint that --checkpoint names, and its content.

    default: gives the content where none is named.
    """
    path = early_option(argv, "--checkpoint")
    content = load_checkpoint(path) if path else default()
    config, options = parser.read(argv, content.get("config"))
    return config, options, content


def _restore(content: dict[str, Any], vocabulary_size: int, fold: bool) -> nn.Module:
    config = stored_config(content)
    with torch.device("meta"):  # no random weights, which take longer to draw than a caption to find
        model = build_model(config.model, vocabulary_size, pretrained=False)
    load_weights(model, content, assign=True)
    model.eval()
    if fold:
        fold_batchnorm(model)
    return model.to(memory_format=torch.channels_last)


def load_weights(model: nn.Module, content: dict[str, Any], *, assign: bool = False) -> None:
    """Give `model` the weights of a loaded checkpoint; UserError names the first that does not fit.

    assign: the checkpoint's tensors become the model's, whose own may be on torch's "meta" device.
    """
    expected, given = model.state_dict(), content["model"]
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    problems = [
        f"{len(names)} of its weights are {what}, the first is {names[0]}"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    if problems:
        raise misfit(content, " and ".join(problems))
    for name, weight in expected.items():
        if not isinstance(given[name], Tensor):
            raise misfit(content, f"its weight {name} is a {type(given[name]).__name__}, not a tensor")
        if given[name].is_meta:
            raise misfit(content, f"its weight {name} has a shape but no values")
        found, needed = _describe(given[name]), _describe(weight)
        if found != needed:
            raise misfit(content, f"its weight {name} is {found}, its settings and vocabulary need {needed}")
    model.load_state_dict(given, assign=assign)


def _describe(tensor: Tensor) -> str:
    """ "float32 of shape (16, 3)"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def start_from(path: str | Path, model: nn.Module, settings: TrunkSettings, vocabulary: Vocabulary) -> None:
    """Give the model of `settings` a checkpoint's weights; UserError where words or architecture differ."""
    content = load_checkpoint(path)
    stored = stored_config(content).model
    if stored.name != settings.name:
        raise UserError(
            f"train.start_from: {path} holds {stored.name}, not {settings.name}: use the same model"
        )
    for name, wanted in architecture(settings).items():
        given = getattr(stored, name)
        if given != wanted:
            raise UserError(
                f"train.start_from: {path} was made with model.{name} {given}, not {wanted}: use the same"
            )
    if settings.task == "captioning" and tuple(content["vocabulary"]) != vocabulary.words:
        raise UserError(
            f"train.start_from: {path} has other words ({len(content['vocabulary'])}) than the data "
            f"({len(vocabulary)}): use input files with the same vocabulary"
        )
    load_weights(model, content)


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
