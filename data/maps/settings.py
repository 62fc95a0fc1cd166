"""How the maps of a data set are read: their palette, and what greyscale maps show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.palette import SECOND, Colour, Palette

LISTED = 5  # maximum number of colours in a remedy


@dataclass(frozen=True)
class MapSettings:
    """How the maps of a data set are read.

    palette: of the maps. mask_class: the class that masks (0 and 255, or 0 and 1) show, None: masks are
    refused. map_indices: greyscale maps hold class indices, also those with only 0 and 1. mask_unchanged:
    make maps void where both dates have the same class. palette_file: where the data set's palette is from;
    None: it is SECOND's. trained: the palette is a trained model's, which palette.yaml cannot change.
    """

    palette: Palette = SECOND
    mask_class: str | None = None
    map_indices: bool = False
    mask_unchanged: bool = False
    palette_file: Path | None = None
    trained: bool = False

    def __post_init__(self) -> None:
        if self.mask_class is not None and self.mask_class not in self.palette.names:
            raise UserError(
                f"mask_class must be a class of the palette, got {self.mask_class!r:.50}: choose from "
                f"{self.palette.listed()}"
            )

    @classmethod
    def stored(cls, content: Mapping[str, Any]) -> "MapSettings":
        """The settings stored in a checkpoint or an HDF5 file; those of earlier versions lack some."""
        return cls(
            Palette.from_json(content.get("palette")),
            content.get("mask_class"),
            bool(content.get("map_indices")),
            bool(content.get("mask_unchanged")),
        )

    def colour_remedy(self, colours: Sequence[Colour] = ()) -> str:
        """What to do about maps with these colours, which no class has."""
        if self.trained:
            return f"the model's classes are {self.palette.listed_colours()}: repaint the map"
        if not self.palette_file:
            return "write palette.yaml with your classes, or repaint them (docs/data.md)"
        named = f"the colour{'s' * (len(colours) > 1)} {', '.join(map(str, colours))}"
        if not 0 < len(colours) <= LISTED:
            named = "their colours"
        return f"add {named} to {self.palette_file}, as classes or under `void`"

    def to_dict(self) -> dict[str, Any]:
        """As plain values for a checkpoint; inverse of `stored`."""
        return {
            "palette": self.palette.to_json(),
            "mask_class": self.mask_class,
            "map_indices": self.map_indices,
            "mask_unchanged": self.mask_unchanged,
        }


SECOND_MAPS = MapSettings()
