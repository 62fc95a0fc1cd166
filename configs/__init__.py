"""Typed configuration: the dataclasses below are every setting there is; a YAML file and dotted options
override them.

`configs/second_cc.yaml` explains each setting. An unknown key, a wrong type or a value out of range is
refused before any data is touched, with the key, the value and the rule.
"""

import argparse
import json
import re
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

from data.augmentation import FLIPS
from data.perturbations import MAPS, PERTURBATIONS

Probability = restricted_number_type("Probability", float, [(">=", 0), ("<", 1)], join="and")
Split = Literal["train", "val", "test"]
Augment = Literal[FLIPS, *PERTURBATIONS]
Precision = Literal["float32", "tf32", "bf16", "fp16"]


SELECTED_BY = {"mmodalcc": ("bleu_4", "cider", "s_m"), "change_detector": ("miou", "sek", "f_scd")}


@dataclass(frozen=True)
class DataConfig:
    dir: str = "createdFileBlackAUG"
    annotations: str | None = None
    maps: Literal["given", "detected", "void"] = "given"
    augmented_splits: list[Split] = field(default_factory=lambda: ["train"])
    augment: list[Augment] = field(default_factory=list)
    no_change: list[str] | None = None
    workers: NonNegativeInt = 2

    def check_training(self, model: str) -> None:
        """ValueError where training would alter maps that `model`, a name of model.name, cannot see or learns
        to predict."""
        names = [name for name in self.augment if name != FLIPS and PERTURBATIONS[name].group == MAPS]
        if names and self.maps == "void":
            raise ValueError(f"data.augment must name no map noise where data.maps is void: got {names}")
        if names and model == "change_detector":
            raise ValueError(
                "data.augment must name no map noise where model.name is change_detector, which learns to "
                f"predict the maps: leave out {', '.join(names)}"
            )


@dataclass(frozen=True)
class ModelConfig:
    name: Literal["mmodalcc", "change_detector"] = "mmodalcc"
    trunk: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet101"
    weights: str = "imagenet"
    trained_from: Literal["conv1", "layer1", "layer2", "layer3", "nothing"] = "layer2"
    trunk_batchnorm: Literal["frozen", "live"] = "frozen"
    block_batchnorm: Literal["frozen", "live"] = "live"
    normalisation: Literal["imagenet", "none"] = "imagenet"
    grid: PositiveInt = 14
    width: PositiveInt = 512
    heads: PositiveInt = 8
    feedforward: PositiveInt = 2048
    fusion_layers: PositiveInt = 2
    modalities: Literal["both", "rgb", "sem"] = "both"
    layers: Literal["chained", "parallel"] = "chained"
    sharing: Literal["separate", "shared"] = "separate"
    cmca: bool = True
    udca: bool = True
    mgca: bool = True
    dropout: Probability = 0.5
    embedding_dropout: Probability = 0.1
    max_length: PositiveInt = 50

    def __post_init__(self) -> None:
        if self.width % 2 or self.width % self.heads:
            raise ValueError(
                f"model.width must be even and a multiple of model.heads: got {self.width} and {self.heads}"
            )


@dataclass(frozen=True)
class TrainConfig:
    start_from: str | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 28
    accumulate: PositiveInt = 1
    captions_per_step: Literal["one", "all"] = "one"
    keep_features: bool = False
    learning_rate: PositiveFloat = 5e-5
    schedule: Literal["plateau", "one_cycle"] = "plateau"
    decay: ClosedUnitInterval = 0.7
    decay_patience: PositiveInt = 3
    early_stop: PositiveInt = 10
    clip_value: NonNegativeFloat = 5.0
    clip_fusion: bool = True
    select_on: Literal["bleu_4", "cider", "s_m", "miou", "sek", "f_scd"] = "bleu_4"
    checkpoint_minutes: PositiveFloat = 15.0
    precision: Precision = "tf32"
    compile: bool = False
    device: str = "auto"
    seed: NonNegativeInt = 1


@dataclass(frozen=True)
class DecodeConfig:
    beam_size: PositiveInt = 4
    batch_size: PositiveInt = 16
    precision: Precision = "float32"
    device: str = "auto"


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.train.keep_features and (
            self.model.trained_from != "nothing" or self.model.trunk_batchnorm == "live"
        ):
            raise ValueError(
                "train.keep_features needs a trunk that never changes: model.trained_from nothing, "
                "model.trunk_batchnorm frozen; "
                f"got {self.model.trained_from} and {self.model.trunk_batchnorm}"
            )

        if self.train.keep_features and self.data.augment:
            raise ValueError(
                "train.keep_features must be false where data.augment changes the images of each epoch: "
                f"got {self.data.augment}; leave out one of the two"
            )

        self._check_detector()

    def _check_detector(self) -> None:
        """What the two networks learn differs, and so does what their settings may be."""
        name, allowed = self.model.name, SELECTED_BY[self.model.name]
        if self.train.select_on not in allowed:
            raise ValueError(
                f"train.select_on must be one of {', '.join(allowed)} where model.name is {name}: "
                f"got {self.train.select_on}"
            )
        if name == "change_detector" and self.train.compile:
            raise ValueError("train.compile compiles captioning models: leave it out for a change_detector")
        if name == "change_detector" and (self.data.maps != "given" or self.train.keep_features):
            raise ValueError(
                "a change_detector learns given maps from all stages of the trunk: data.maps must be given, "
                f"train.keep_features false; got {self.data.maps} and {self.train.keep_features}"
            )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain numbers, strings and lists: what a checkpoint and a run folder keep."""
        return json.loads(json.dumps(asdict(self)))


SECTIONS = {"data": DataConfig, "model": ModelConfig, "train": TrainConfig, "decode": DecodeConfig}


class CommandLine(ArgumentParser):
    """A script's options plus dotted settings such as `--train.epochs 2`; what is wrong is a ValueError in
    one line."""

    def __init__(self, description: str | None, *sections: str) -> None:
        super().__init__(description=description, exit_on_error=False, allow_abbrev=False)
        self.sections = sections or tuple(SECTIONS)
        for name in self.sections:
            self.add_class_arguments(SECTIONS[name], name)

    def read(self, argv: list[str] | None, stored: dict | None = None) -> tuple[Config, Namespace]:
        """Settings and options from `argv`, over the settings of a checkpoint (`stored`) where there is
        one."""
        stored = stored or {}
        try:
            self.set_defaults({f"{s}.{k}": v for s in self.sections for k, v in stored.get(s, {}).items()})
            options = self.parse_args(argv)
            given = self.instantiate(options)
            parts = {name: getattr(given, name) for name in self.sections}
            config = Config(**{**from_dict(stored), **parts})
            return Config(**from_dict(config.to_dict())), options  # plain numbers, not jsonargparse's
        except (ArgumentError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"configuration: {error}{self._meant(str(error))} "
                "(configs/second_cc.yaml explains every setting)"
            ) from None

    def _meant(self, error: str) -> str:
        """The name that is nearest to the unknown one of jsonargparse's message; "" where there is none."""
        unknown = re.search(
            r"unrecognized arguments: --([\w.]+)|Group '(\w+)' does not accept option '(\w+)'"
            r"|Option '([\w.]+)' is not accepted",
            error,
        )
        name = ".".join(filter(None, unknown.groups())) if unknown else ""
        section, _, last = name.rpartition(".")
        known = sorted(self.get_defaults().keys(), key=lambda key: key.startswith(f"{section}."))
        named = {key.rpartition(".")[2]: key for key in known}  # of two alike, that of the section named
        return "".join(f", did you mean {named[near]}?" for near in get_close_matches(last, named, n=1))


def early_option(argv: list[str] | None, name: str) -> str | None:
    """One option's value before the rest is parsed: the checkpoint, whose settings are the defaults of the
    rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, dest="value")
    return parser.parse_known_args(argv)[0].value


def from_dict(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sections of a stored configuration as dataclasses."""
    return {name: SECTIONS[name](**section) for name, section in values.items()}


def read_stored(stored: dict[str, Any]) -> Config:
    """The configuration that a checkpoint keeps; settings that an older one lacks have their defaults.

    ValueError names the section or setting that is missing, unknown or out of range.
    """
    for name, section in SECTIONS.items():
        if not isinstance(stored.get(name), dict):
            raise ValueError(f"its settings have no section {name}")
        known = {setting.name for setting in fields(section)}
        if unknown := [key for key in stored[name] if key not in known]:
            raise ValueError(f"a newer version wrote it, with the unknown setting {name}.{unknown[0]}")
    if unknown := [name for name in stored if name not in SECTIONS]:
        raise ValueError(f"a newer version wrote it, with the unknown section {unknown[0]}")
    try:
        parser = CommandLine(None)
        given = parser.instantiate(parser.parse_object(stored))
        return Config(**{name: getattr(given, name) for name in SECTIONS})
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its settings are not valid ({error})") from None


def load(path: str | Path) -> Config:
    """The configuration of one YAML file."""
    parser = CommandLine(None)
    parser.add_argument("--config", action="config")
    return parser.read(["--config", str(path)])[0]
