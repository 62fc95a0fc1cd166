"""Typed configuration: one dataclass per section; a YAML file and dotted options override the defaults.

`configs/second_cc.yaml` explains each setting. Unknown keys, wrong types and values out of range are refused
before any data is read, with the key, the value and the rule.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

import models
from data.errors import UserError
from data.settings import DataConfig

if TYPE_CHECKING:
    from models.trunks import TrunkSettings

Precision = Literal["float32", "tf32", "bf16", "fp16"]
DEFAULT_MODEL = "mmodalcc"
SELECTED_BY = {
    "captioning": ("bleu_4", "cider", "s_m", "fact_f1", "fact_f05", "own_pair"),
    "detection": ("miou", "sek", "f_scd"),
}
# Checkpoints of earlier versions keep these settings for every model, also for those without them.
ONCE_COMMON = (
    "grid", "heads", "feedforward", "fusion_layers", "modalities", "layers", "sharing", "cmca", "udca",
    "mgca", "block_batchnorm", "dropout", "embedding_dropout", "max_length",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    start_from: str | None = None
    """Checkpoint whose weights training starts from."""
    epochs: PositiveInt = 30
    """Maximum number of epochs."""
    batch_size: PositiveInt = 28
    """Captions per step, over all processes; pairs for a change detector."""
    accumulate: PositiveInt = 1
    """Micro-batches into which a process divides its share of a batch."""
    captions_per_step: Literal["one", "all"] = "one"
    """Captions of a pair per step: one, drawn at random, or all."""
    keep_features: bool = False
    """Compute the features of a fixed trunk once, before training."""
    learning_rate: PositiveFloat = 5e-5
    """Learning rate of Adam, for all parts of the model."""
    schedule: Literal["plateau", "step", "one_cycle"] = "plateau"
    """Learning-rate schedule: the decoder's rate decays on a plateau, all rates decay in steps, or one cycle
    over all steps."""
    decay: ClosedUnitInterval = 0.7
    """Factor of a decay of the learning rate, in plateau and step."""
    decay_patience: PositiveInt = 3
    """Epochs before a decay: without a better validation score (plateau), or all (step)."""
    early_stop: PositiveInt = 10
    """Epochs without a better validation score before training ends."""
    clip_value: NonNegativeFloat = 5.0
    """Largest absolute value of a gradient; 0 disables clipping."""
    clip_fusion: bool = True
    """Whether the fusion's gradients are clipped, too."""
    select_on: Literal[
        "bleu_4", "cider", "s_m", "fact_f1", "fact_f05", "own_pair", "miou", "sek", "f_scd"
    ] = "bleu_4"
    """Validation score that selects best.pt."""
    checkpoint_minutes: PositiveFloat = 15.0
    """Minutes between two last.pt within an epoch."""
    precision: Precision = "tf32"
    """Precision of the forward pass; a GPU without bf16 units uses fp16 instead of bf16."""
    compile: bool = False
    """torch.compile for trunks and fusion."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: NonNegativeInt = 1
    """Random seed of weights, order, dropout and augmentation."""


@dataclass(frozen=True)
class DecodeConfig:
    """How captions are decoded, and maps detected."""

    beam_size: PositiveInt = 4
    """Beams of the search."""
    batch_size: PositiveInt = 16
    """Pairs decoded at once."""
    precision: Precision = "float32"
    """Precision of the encoder."""
    change_threshold: ClosedUnitInterval | None = None
    """Probability of a change from which a caption describes one; none: the most likely caption."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def _default_model() -> "TrunkSettings":
    return models.model_class(DEFAULT_MODEL).Settings()


@dataclass(frozen=True)
class Config:
    """All settings; `model` is the `Settings` of the model that `model.name` names."""

    data: DataConfig = field(default_factory=DataConfig)
    model: "TrunkSettings" = field(default_factory=_default_model)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.train.keep_features:
            self._check_kept_features()
        allowed = SELECTED_BY[self.model.task]
        if self.train.select_on not in allowed:
            raise UserError(
                f"train.select_on must be one of {', '.join(allowed)} where model.name is {self.model.name}: "
                f"got {self.train.select_on}"
            )
        if self.model.task == "detection" and self.train.compile:
            raise UserError("train.compile compiles captioning models: leave it out for a change detector")
        if self.model.task == "detection" and self.data.maps != "given":
            raise UserError(
                f"a change detector learns given maps: data.maps must be given, got {self.data.maps}"
            )

    def _check_kept_features(self) -> None:
        """UserError where the features of a pair are not the same in every epoch."""
        if self.model.task == "detection":
            raise UserError(
                "train.keep_features must be false for a change detector, which learns from all layers of "
                "the trunk: leave it out"
            )
        if not self.model.trunk_is_fixed:
            raise UserError(
                "train.keep_features needs a trunk that never changes: model.trained_from nothing, "
                "model.trunk_batchnorm frozen; "
                f"got {self.model.trained_from} and {self.model.trunk_batchnorm}"
            )
        if self.data.augment:
            raise UserError(
                "train.keep_features must be false where data.augment changes the images of each epoch: "
                f"got {self.data.augment}; leave out one of the two"
            )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain numbers, strings and lists: what a checkpoint and a run folder keep."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Inverse of `to_dict`. Settings that an earlier version did not have get their defaults."""
        return cls(**{name: _section(name, values) for name, values in stored.items()})


def section_class(name: str, values: Mapping[str, Any]) -> type:
    """The dataclass of a section; that of `model` depends on its `name`."""
    if name == "model":
        return models.model_class(values.get("name", DEFAULT_MODEL)).Settings
    return {"data": DataConfig, "train": TrainConfig, "decode": DecodeConfig}[name]


SECTIONS = tuple(section.name for section in fields(Config))


def _section(name: str, values: Mapping[str, Any]) -> Any:
    kind = section_class(name, values)
    return kind(**known_settings(kind, values))


def known_settings(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The stored values without those that earlier versions kept for models that do not have them."""
    names = {setting.name for setting in fields(kind)}
    return {key: value for key, value in values.items() if key in names or key not in ONCE_COMMON}


def architecture(settings: "TrunkSettings") -> dict[str, Any]:
    """The settings that weights belong to: all but those marked `training_only`."""
    chosen = [setting.name for setting in fields(settings) if not setting.metadata.get("training_only")]
    return {name: getattr(settings, name) for name in chosen}


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    values: dict[str, Any] = {}
    for key, value in nested.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values
