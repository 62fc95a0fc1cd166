"""LEVIR-MCI's labels of roads and buildings as maps in SECOND's colours."""

from pathlib import Path

import numpy as np

from data.errors import UserError
from data.maps.colours import codes_of, nearest_colours
from data.palette import BLACK, VOID, Colour, colour_codes

# LEVIR-MCI's label values in SECOND's colours: background is void, roads are ground surface.
ROAD, BUILDING = (128, 128, 128), (128, 0, 0)
LABEL_COLOURS: dict[int, Colour] = {0: VOID, 128: ROAD, 255: BUILDING}
# Its label_rgb/ has other colours for roads in different versions.
LABEL_RGB: dict[Colour, Colour] = {
    BLACK: VOID, (0, 0, 255): ROAD, (255, 255, 0): ROAD, (255, 0, 0): BUILDING, BUILDING: BUILDING
}  # fmt: skip


def colour_label(label: np.ndarray) -> np.ndarray:
    """Paint a LEVIR-MCI label (H, W) as a map (H, W, 3) uint8; UserError on values but 0, 128 and 255."""
    values = np.unique(label).tolist()
    unknown = [value for value in values if value not in LABEL_COLOURS]
    if unknown:
        raise UserError(
            f"a label must hold only 0 (background), 128 (road) and 255 (building), got {unknown[:5]}"
        )
    colours = np.zeros((256, 3), dtype=np.uint8)
    for value in values:
        colours[value] = LABEL_COLOURS[value]
    return colours[label]


def paint_label_rgb(path: Path, label: np.ndarray) -> tuple[np.ndarray, float]:
    """Paint a label in colours, (H, W, 3) uint8, as a map; returns it and the fraction of inexact colours."""
    codes = colour_codes(label)
    others, inverse = np.unique(codes, return_inverse=True)
    painted, near = nearest_colours(others, LABEL_RGB)
    if not near.all():
        code = int(others[~near][0])
        raise UserError(
            f"{path}: a label in colours must be black, blue or yellow for roads and red for buildings, got "
            f"{(code >> 16, code >> 8 & 255, code & 255)}: use label/, or describe the colours in "
            "palette.yaml"
        )
    exact = np.isin(others, codes_of(LABEL_RGB))[inverse]
    return painted[inverse].reshape(label.shape), float((~exact).mean())
