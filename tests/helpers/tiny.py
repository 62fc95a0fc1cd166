"""A model small enough for tests: width 16, 64 x 64 pixels, a vocabulary of 12."""

from dataclasses import fields
from pathlib import Path

import torch

from configs import Config, TrainConfig, known_settings
from data.settings import DataConfig
from data.splits import open_reader
from models import build_model, model_class
from models.captioner import Captioner
from models.trunks import TrunkSettings
from tools.engine.checkpoint import save_checkpoint
from tools.run_ablations import read_ablations

VOCABULARY_SIZE = 12
START, END, PAD = 10, 11, 0
WORDS = ["<pad>", *(f"w{index}" for index in range(VOCABULARY_SIZE - 4)), "<unk>", "<start>", "<end>"]
AUTHORS = {"layers": "parallel", "sharing": "shared", "trunk_batchnorm": "live", "normalisation": "none"}
ABLATED = {}  # name of an ablation -> its settings, for `tiny_model`
for _name, _settings in read_ablations(None).items():
    ABLATED[_name] = {key.removeprefix("model."): value for key, value in _settings.items()}


def tiny_config(name: str = "mmodalcc", **changes) -> TrunkSettings:
    settings = {
        "trunk": "resnet18",
        "weights": "none",
        "trained_from": "conv1",
        "grid": 3,
        "width": 16,
        "attention_width": 16,
        "heads": 2,
        "feedforward": 32,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "max_length": 8,
    }
    kind = model_class(name).Settings
    defaults = {key: value for key, value in settings.items() if key in setting_names(name)}
    return kind(**known_settings(kind, {**defaults, **changes}))


def setting_names(model: str) -> set[str]:
    """The names of a model's settings."""
    return {setting.name for setting in fields(model_class(model).Settings)}


def tiny_model(**changes) -> Captioner:
    torch.manual_seed(0)
    return build_model(tiny_config(**changes), VOCABULARY_SIZE)


def save_tiny_detector(path: Path, folder: Path, width: int = 8) -> None:
    """Save a detector with random weights that predicts change for about half of the pixels."""
    settings = {"name": "change_detector", "width": width}
    model = tiny_model(**settings).eval()
    data = DataConfig(dir=str(folder), workers=0)
    reader = open_reader("val", data)
    with torch.no_grad():
        actual = model(torch.from_numpy(reader.views(0)).unsqueeze(0))
        model.decoder.change_head[-1].bias -= actual.change.median()
    config = Config(data=data, model=tiny_config(**settings), train=TrainConfig(select_on="sek"))
    content = {"model": model.state_dict(), "config": config.to_dict(), "image_size": list(reader.image_size)}
    save_checkpoint(path, content)


def random_views(pairs: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (pairs, 4, 3, 64, 64), generator=torch.Generator().manual_seed(seed)).byte()


def random_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, START, shape, generator=torch.Generator().manual_seed(seed))


def tiny_settings(folder, model: str = "mmodalcc", **changes) -> list[str]:
    """Options of train.py for a run of a few seconds on the input files in `folder`."""
    settings = {
        "data.dir": folder,
        "data.workers": 0,
        "model.trunk": "resnet18",
        "model.weights": "none",
        "model.trained_from": "conv1",
        "model.grid": 2,
        "model.width": 16,
        "model.attention_width": 16,
        "model.heads": 2,
        "model.feedforward": 32,
        "model.dropout": 0.1,
        "train.epochs": 2,
        "train.batch_size": 10,
        "train.captions_per_step": "all",
        "train.learning_rate": 1e-3,
        "train.select_on": "s_m",
        "train.device": "cpu",
        "decode.device": "cpu",
    }
    names = {f"model.{name}" for name in setting_names(model)}
    kept = {key: value for key, value in settings.items() if not key.startswith("model.") or key in names}
    return [word for key, value in {**kept, **changes}.items() for word in (f"--{key}", str(value))]
