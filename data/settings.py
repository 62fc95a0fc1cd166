"""The `data:` section of a configuration, and restricted types for settings."""

from dataclasses import dataclass, field
from typing import Literal

from jsonargparse.typing import NonNegativeInt, restricted_number_type

from data.errors import UserError
from data.perturbations import MAPS, PERTURBATIONS

ENGLISH_FACTS, NO_FACTS = "english", "none"  # values of data.facts; others are files
FLIPS = "flips"  # value of data.augment: mirror images and quarter turns
Probability = restricted_number_type("Probability", float, [(">=", 0), ("<", 1)], join="and")
Split = Literal["train", "val", "test"]
Augment = Literal[FLIPS, *PERTURBATIONS]


@dataclass(frozen=True)
class DataConfig:
    """Which files are read, and how the pairs are augmented."""

    dir: str = "createdFileBlackAUG"
    """Folder of the input files."""
    annotations: str | None = None
    """JSON file of the data set that the authors' input files were made from."""
    maps: Literal["given", "detected", "void"] = "given"
    """The files' maps, those of tools/detect_maps.py, or none."""
    augmented_splits: list[Split] = field(default_factory=lambda: ["train"])
    """Splits whose augmented pairs are used."""
    augment: list[Augment] = field(default_factory=list)
    """Augmentations of training: flips and perturbations."""
    no_change: list[str] | None = None
    """Sentences that say nothing has changed; default: those found in the data."""
    facts: str = ENGLISH_FACTS
    """Word lists that captions are read by for fact scores: english, none, or a YAML file."""
    workers: NonNegativeInt = 2
    """Processes that load batches."""

    @property
    def has_void_maps(self) -> bool:
        """Whether a model that is trained with these settings learns to caption pairs without maps."""
        return self.maps == "void" or "map_void" in self.augment

    def check_training(self, task: str) -> None:
        """Raise UserError if training would perturb maps that the model does not see or learns to predict."""
        names = [name for name in self.augment if name != FLIPS and PERTURBATIONS[name].group == MAPS]
        if names and self.maps == "void":
            raise UserError(f"data.augment must name no map noise where data.maps is void: got {names}")
        if names and task == "detection":
            raise UserError(
                "data.augment must name no map noise for a change detector, which learns to predict the "
                f"maps: leave out {', '.join(names)}"
            )
