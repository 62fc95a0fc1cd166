"""Checkpoints: plain tensors, numbers, strings and lists, so that they load with torch's
`weights_only=True`."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from zipfile import is_zipfile

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from configs import Config, architecture
from configs.command_line import CommandLine, early_option, read_stored
from data.atomic_write import atomic_write, cannot_write
from data.errors import UserError
from data.listing import listed
from data.maps.settings import MapSettings
from data.palette import SECOND, Palette, same_classes
from data.vocabulary import SPECIALS, Vocabulary
from models import build_model
from models.captioner import Captioner
from models.change_detector import ChangeDetector
from models.fuse_batchnorm import fold_batchnorm
from models.safe_load import safe_load, why_unreadable
from models.state_dict import first_misfit
from models.trunks import TrunkSettings
from models.word_weights import with_words, word_dimensions

FORMAT = "mmodalcc-1"
LISTED = 5  # maximum number of checkpoints in a message
TEXTS = ("vocabulary", "common_captions", "train_captions", "no_change")  # parts that are lists of texts


class TrainingState(TypedDict):
    """What --resume needs: the states of optimiser, loss scaler, progress and random generators (one per
    process), and the fingerprints of the data files."""

    optimiser: dict[str, Any]
    scaler: NotRequired[dict[str, Any]]
    progress: dict[str, float]
    random: list[dict[str, Any]]
    data: NotRequired[dict[str, str] | str]


class Content(TypedDict):
    """The content of a checkpoint; training is in last.pt alone, path is set by `load_checkpoint`."""

    model: dict[str, Tensor]
    config: dict[str, dict[str, Any]]
    image_size: list[int]
    vocabulary: NotRequired[list[str]]
    train_captions: NotRequired[list[str]]
    train_constants: NotRequired[dict[str, str]]
    no_change: NotRequired[list[str]]
    palette: NotRequired[str]
    map_indices: NotRequired[bool]
    mask_unchanged: NotRequired[bool]
    mask_class: NotRequired[str | None]
    metres_per_pixel: NotRequired[float | None]
    change_temperature: NotRequired[float | None]
    epoch: NotRequired[int]
    scores: NotRequired[dict[str, float] | None]
    training: NotRequired[TrainingState]
    path: NotRequired[str]


def save_checkpoint(path: Path, content: Content) -> None:
    """Write a checkpoint. OSError on a full disk; an older file at `path` then stays unchanged."""
    stored = {name: part for name, part in content.items() if name != "path"}
    with atomic_write(path) as partial:
        try:
            torch.save({"format": FORMAT, **stored}, partial)
        except RuntimeError as error:  # torch's writer reports a full disk so
            if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
                raise
            raise cannot_write(path, str(error).partition("\n")[0]) from error


def load_checkpoint(path: str | Path, *, training: bool = False) -> Content:
    """The content of a checkpoint on the CPU.

    Every part except the weights is checked here, the weights by `load_weights`. training: the file must be a
    last.pt; it is read completely, because it will be replaced. Otherwise tensors are read when they are
    used. Raises FileNotFoundError; UserError for a file of another kind and for content that this version
    cannot use.
    """
    if Path(path).is_dir():
        raise UserError(f"checkpoint {path} is a folder: name the best.pt in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found: {_other_checkpoints(Path(path))}")
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


def _other_checkpoints(path: Path) -> str:
    """What to do about a missing checkpoint: name one beside it, or in the folders beside its folder."""
    folder = path.parent
    files = sorted(folder.glob("*.pt") if folder.is_dir() else folder.parent.glob("*/best.pt"))
    if not files:
        return "train one with train.py first"
    return f"name one of {listed(files, LISTED)}"


def misfit(content: Content, reason: str) -> UserError:
    """The error for a checkpoint whose content this version of the code cannot use."""
    return UserError(
        f"{path_of(content)} does not fit this version of the code, {reason}: give another best.pt or "
        "last.pt, or use the version that wrote it"
    )


def path_of(content: Content) -> str:
    """The file that a loaded checkpoint is from; "the checkpoint" for content that is not from a file."""
    return content.get("path", "the checkpoint")


def _check_format(path: str | Path, content: Any) -> None:
    file_format, kind = None, f"it holds a {type(content).__name__}"
    if isinstance(content, dict):
        file_format = content.get("format")
        weights = content and all(isinstance(part, Tensor) for part in content.values())
        kind = "it holds weights alone" if weights else f"its format is {file_format!r}, expected {FORMAT!r}"
    if file_format == FORMAT:
        return
    if isinstance(file_format, str) and re.fullmatch(r"mmodalcc-\d+", file_format):
        raise UserError(
            f"{path} was written by a newer version of this code (format {file_format!r}, this version reads "
            f"{FORMAT!r}): update the code"
        )
    raise UserError(
        f"{path} is not a checkpoint of this project ({kind}): give a best.pt or last.pt of train.py"
    )


def _check_parts(content: Content) -> None:
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
    MapSettings.stored(content)
    for part in ("metres_per_pixel", "change_temperature"):
        number = content.get(part)
        if number is not None and not (type(number) is float and 0 < number < float("inf")):
            raise UserError(f"its {part} is not a positive number but {number!r:.50}")
    if read_stored(content["config"]).model.task == "captioning":
        _require(content, {"vocabulary": list})
        Vocabulary(content["vocabulary"])
    size = content["image_size"]
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise UserError(f"its image_size is not [height, width] in pixels but {size}")


def _check_training(content: Content) -> None:
    """UserError names a part that --resume needs; the content of the parts is checked where it is used."""
    if "training" not in content:
        raise UserError("it has no training state, which only last.pt has")
    _require(content, {"training": dict, "epoch": int})
    _require(content["training"], {"optimiser": dict, "progress": dict, "random": list})
    if not isinstance(content["training"].get("data"), dict | str):  # str: older files, of train alone
        raise UserError("its part data, the fingerprints of the data files, is missing")


def _require(parts: dict[str, Any], types: dict[str, type]) -> None:
    for name, expected in types.items():
        if name not in parts:
            raise UserError(f"its part {name} is missing")
        if not isinstance(parts[name], expected):
            raise UserError(
                f"its part {name} is a {type(parts[name]).__name__}, expected a {expected.__name__}"
            )


def restore_model(content: Content, *, fold: bool = True) -> tuple[Captioner, Vocabulary]:
    """The captioning model, in eval mode, and the vocabulary of a loaded checkpoint.

    fold: fuse BatchNorm into the convolutions (`fold_batchnorm`), for inference; False keeps the model as it
    was trained. UserError if the checkpoint holds another model or weights that do not fit.
    """
    settings = stored_config(content).model
    if settings.task != "captioning":
        raise UserError(
            f"a captioning model is needed, {path_of(content)} holds {settings.name}, which detects "
            "changes: give the best.pt of a captioning run"
        )
    vocabulary = Vocabulary(content["vocabulary"])
    return _restore(content, len(vocabulary), fold), vocabulary


def restore_detector(content: Content) -> ChangeDetector:
    """The change detector of a loaded checkpoint, in eval mode; errors as in `restore_model`."""
    settings = stored_config(content).model
    if settings.task != "detection":
        raise UserError(
            f"a change detector is needed, {path_of(content)} holds {settings.name}: train one with "
            "train.py --config configs/change_detector.yaml"
        )
    return _restore(content, 0, fold=True)


def open_detector(
    path: Path, size: tuple[int, int], palette: Palette, device: torch.device
) -> ChangeDetector:
    """The change detector of a checkpoint, to predict the maps of a captioning model.

    size, palette: (H, W) of the images and palette of the maps that the captioning model was trained on.
    UserError if the detector was trained on others, or as in `restore_detector`.
    """
    content = load_checkpoint(path)
    detector = restore_detector(content).to(device)
    if tuple(content["image_size"]) != size:
        raise UserError(
            f"--detector {path} must be trained on {size} images as the captioning model was, got "
            f"{tuple(content['image_size'])}: train both on the same input files"
        )
    if not same_classes(detector.palette, palette):
        raise UserError(
            f"--detector {path} must be trained on the classes of the captioning model ({palette.listed()}), "
            f"got {detector.palette.listed()}: train both on the same input files"
        )
    return detector


def stored_config(content: Content) -> Config:
    """The configuration of a loaded checkpoint."""
    return Config.from_dict(content["config"])


def read_over_checkpoint(
    parser: CommandLine, argv: Sequence[str] | None, default: Callable[[], Content] = dict
) -> tuple[Config, Namespace, Content]:
    """Parse a command line over the settings of --checkpoint; returns settings, options and its content.

    default: returns the content if --checkpoint is absent.
    """
    path = early_option(argv, "--checkpoint")
    content = load_checkpoint(path) if path else default()
    config, options = parser.read(argv, content.get("config"))
    return config, options, content


def _restore(content: Content, vocabulary_size: int, fold: bool) -> nn.Module:
    config = stored_config(content)
    with torch.device("meta"):  # no random weights: they take longer than a caption
        palette = MapSettings.stored(content).palette
        model = build_model(config.model, vocabulary_size, palette=palette, pretrained=False)
    load_weights(model, content, assign=True)
    model.eval()
    if fold:
        fold_batchnorm(model)
    return model.to(memory_format=torch.channels_last)


def load_weights(model: nn.Module, content: Content, *, assign: bool = False) -> None:
    """Load the weights of a checkpoint into `model`; UserError names the first that does not fit.

    assign: the tensors of the checkpoint replace those of the model, which may be on torch's "meta" device.
    """
    if reason := first_misfit(model.state_dict(), content["model"]):
        raise misfit(content, f"its model {reason}")
    model.load_state_dict(content["model"], assign=assign)


def start_from(
    path: str | Path,
    model: nn.Module,
    settings: TrunkSettings,
    vocabulary: Vocabulary,
    palette: Palette = SECOND,
) -> list[str]:
    """Load the weights of a checkpoint into a new model; UserError if the architecture differs.

    If the checkpoint has other words than `vocabulary`, the weights of common words are loaded, and those of
    new words stay random. The same holds for classes: `palette` is that of the maps to learn from. Returns
    a line for each of the two that differs.
    """
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
    remarks = _fit_classes(content, model, palette)
    if settings.task != "captioning" or tuple(content["vocabulary"]) == vocabulary.words:
        load_weights(model, content)
        return remarks
    old = Vocabulary(content["vocabulary"])
    _load_common_words(model, settings, vocabulary, content, old)
    kept = sum(word in old for word in vocabulary.words)
    words, old_words = (len(each) - len(SPECIALS) for each in (vocabulary, old))
    return [
        *remarks,
        f"train.start_from {path}: words with the weights of the checkpoint: {kept} of {words}, new words "
        f"with random weights: {words - kept}, words of the checkpoint that the data lack: "
        f"{old_words - kept}",
    ]


def _fit_classes(content: Content, model: nn.Module, palette: Palette) -> list[str]:
    """Give the output layer of a detector in a checkpoint a row for void and each class of `palette`.

    Classes of the same name keep their weights, other classes get those of `model`. Returns a line if the
    checkpoint has other classes.
    """
    labels = MapSettings.stored(content).palette.labels
    if labels == palette.labels:
        return []
    common = [label for label in palette.names if label in labels]
    line = (
        f"train.start_from {path_of(content)}: classes of the maps that are also classes of the "
        f"checkpoint: {len(common)} of {len(palette.names)}"
    )
    if not isinstance(model, ChangeDetector):
        return [line]
    rows = [palette.labels.index(label) for label in ("void", *common)]
    stored_rows = [labels.index(label) for label in ("void", *common)]
    fresh, stored = model.state_dict(), content["model"]
    for name in (f"{ChangeDetector.OUTPUT}.weight", f"{ChangeDetector.OUTPUT}.bias"):
        if isinstance(stored.get(name), Tensor) and len(stored[name]) == len(labels):
            weight = fresh[name].cpu().clone()
            weight[rows] = stored[name][stored_rows]
            stored[name] = weight
    return [f"{line}, which keep their outputs, the others begin with random weights"]


def _load_common_words(
    model: nn.Module, settings: TrunkSettings, vocabulary: Vocabulary, content: Content, old: Vocabulary
) -> None:
    """Load a checkpoint of the vocabulary `old` into a model for `vocabulary`; misfit if it is damaged."""
    with torch.device("meta"):
        expected = build_model(settings, len(old), pretrained=False).state_dict()
    if reason := first_misfit(expected, content["model"]):
        raise misfit(content, f"its model {reason}")
    dimensions = word_dimensions(settings)
    model.load_state_dict(with_words(content["model"], old, model.state_dict(), vocabulary, dimensions))
