"""Synthetic pairs of aerial images with a known change, the training data of the demo.

A scene consists of fields, optional roads and an optional river, and one or two areas of a land use.
The background is painted once, the areas for each date. Maps and captions are derived from the two drawings.
Finally, differences that are not changes are added: light, season, blur, resolution, viewpoint, registration.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from data.palette import SECOND, WHITE
from data.sources import NO_CHANGE_SENTENCES
from data.synthetic.areas import AREA_PAINTERS, NATURAL_USES, Area, outline
from data.synthetic.background import Lines, grown, paint_background
from data.synthetic.captions import CAPTIONS_PER_PAIR, Change, describe, place_name
from data.synthetic.conditions import draw_conditions, photograph
from data.synthetic.materials import CLASS_IDS, SIZE, Canvas, Tints

CHANGES = (  # land use before and after; their classes differ, so every change is visible in the maps
    ("forest", "residential"),
    ("meadow", "residential"),
    ("bareland", "residential"),
    ("meadow", "hall"),
    ("bareland", "playground"),
    ("meadow", "parking"),
    ("forest", "bareland"),
    ("residential", "bareland"),
    ("lake", "bareland"),
    ("meadow", "lake"),
)
CHANGED_SHARE, TWO_AREAS_SHARE = 0.56, 0.12
GOLDEN_RATIO = (5**0.5 - 1) / 2
COLOURS = np.uint8([WHITE, *SECOND.colours])


@dataclass(frozen=True)
class SyntheticPair:
    """Four uint8 images (H, W, 3) as in SECOND-CC (void is white), the changes, and five captions."""

    rgb_a: np.ndarray
    rgb_b: np.ndarray
    sem_a: np.ndarray
    sem_b: np.ndarray
    changes: tuple[Change, ...]
    sentences: tuple[str, ...]


def is_changed(seed: int, index: int) -> bool:
    """Whether a pair has a change; golden-ratio steps keep the share constant in every range of pairs."""
    start = np.random.default_rng(seed).random()
    return (start + index * GOLDEN_RATIO) % 1 < CHANGED_SHARE


def choose_cells(rng: np.random.Generator) -> list[tuple[int, int]]:
    """One or two cells (column, row) of a 3 x 3 grid; two cells are never adjacent."""
    cells = [(column, row) for row in range(3) for column in range(3)]
    first = cells[rng.integers(9)]
    apart = [cell for cell in cells if max(abs(cell[0] - first[0]), abs(cell[1] - first[1])) == 2]
    if apart and rng.random() < TWO_AREAS_SHARE:
        return [first, apart[rng.integers(len(apart))]]
    return [first]


def place_area(cell: tuple[int, int], natural: bool, rng: np.random.Generator) -> Area:
    """An area around the centre of a cell, about a seventh of the image."""
    x, y = (SIZE * (0.2 + 0.3 * number + rng.uniform(-0.03, 0.03)) for number in cell)
    turn = rng.uniform(-0.35, 0.35) + rng.integers(2) * math.pi / 2
    return outline(x, y, turn, rng.uniform(106, 122), rng.uniform(92, 104), natural, rng)


def neighbour(changed: np.ndarray, lines: Lines) -> str | None:
    """The road or river that is within ten pixels of a changed area (H, W) over some length."""
    near = grown(changed, 10)
    contact = {name: int((near & (mask > 0.5)).sum()) for name, mask in lines.items()}
    name = max(contact, key=contact.get, default=None)
    return name if name and contact[name] > 300 else None


def paint_scene(changed: bool, rng: np.random.Generator) -> tuple[Canvas, Canvas, list[Change]]:
    """The drawings of both dates and their changes; without a change both are the same object."""
    angle = rng.uniform(0, 2 * math.pi)
    before = Canvas(Tints.draw(rng), sun=(math.cos(angle), math.sin(angle)))
    cells = choose_cells(rng)
    uses = [CHANGES[rng.integers(len(CHANGES))] for _ in cells]
    natural = [NATURAL_USES.keys() >= set(use) for use in uses]
    areas = [place_area(*plan, rng) for plan in zip(cells, natural, strict=True)]
    lines = paint_background(before, areas, rng)
    free = ~np.any([grown(mask, 3) for mask in lines.values()], axis=0)
    areas = [replace(area, mask=area.mask * free) for area in areas]
    if not changed:
        for area, use in zip(areas, uses, strict=True):
            AREA_PAINTERS[use[rng.integers(2)]](before, area, rng)
        return before, before, []
    after, changes = before.copy(), []
    for area, (old, new) in zip(areas, uses, strict=True):
        AREA_PAINTERS[old](before, area, rng)
        AREA_PAINTERS[new](after, area, rng)
        differs = (before.classes != after.classes) & (area.mask > 0)
        changes.append(Change(old, new, place_name(differs), neighbour(differs, lines)))
    return before, after, changes


def make_pair(seed: int, index: int) -> SyntheticPair:
    """Pair `index` of the dataset with this seed; the result depends on nothing else."""
    rng = np.random.default_rng([seed, index])
    before, after, changes = paint_scene(is_changed(seed, index), rng)
    differs = before.classes != after.classes
    maps = [COLOURS[np.where(differs, canvas.classes, CLASS_IDS["void"])] for canvas in (before, after)]
    names_a, names_b = draw_conditions(rng)
    rgb_a = photograph(before.rgb, before.classes, names_a, rng)
    rgb_b = photograph(after.rgb, after.classes, names_b, rng)
    sentences = describe(changes, rng) if changes else NO_CHANGE_SENTENCES[:CAPTIONS_PER_PAIR]
    return SyntheticPair(rgb_a, rgb_b, *maps, tuple(changes), tuple(sentences))
