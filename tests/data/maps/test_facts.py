"""What is said about the maps of a data set, and of a pair to caption."""

from pathlib import Path

import numpy as np
import pytest

from data.dataset_facts import ImageFacts
from data.maps.facts import describe_maps, describe_palette, remarks_on_maps
from data.maps.files import MapFacts, PairViews
from data.maps.settings import MapSettings
from data.palette import SECOND, Palette

OWN = Palette(("water", "land"), ((0, 0, 255), (0, 0, 0)), void=((255, 255, 255),))
ORDER = "the order is IMG_A IMG_B SEG_A SEG_B, "
FILES = [Path("a.png"), Path("b.png")]


def facts_of(before: MapFacts, after: MapFacts) -> ImageFacts:
    return ImageFacts((2, 2), ("", ""), ({}, {}), (False, False), (False, False), maps=(before, after))


def test_unclear_colours_of_a_pair_to_caption_are_remarked_on_with_the_models_classes():
    image = np.zeros((2, 2, 3), np.uint8)
    for facts, order in (
        (MapFacts("RGB", unclear=0.02), ""),
        (MapFacts("RGB", unclear=0.5, foreign=True), ORDER),
    ):
        pair = PairViews([image] * 4, (MapFacts("RGB"), facts))
        (line,) = remarks_on_maps(pair, FILES, MapSettings(OWN, trained=True))
        assert line == (
            f"b.png: {facts.unclear:.0%} of its pixels have a colour of no class: {order}the model's classes "
            "are water (0, 0, 255), land (0, 0, 0): repaint the map"
        )


def remarks(before: MapFacts, after: MapFacts, *maps: np.ndarray) -> list[str]:
    image = np.zeros((2, 2, 3), np.uint8)
    pair = PairViews([image, image, *(maps or (image, image))], (before, after))
    return list(remarks_on_maps(pair, FILES, MapSettings()))


def test_palette_and_decisions_about_the_data_set_are_described():
    file = Path("d/palette.yaml")
    settings = MapSettings(OWN, "water", map_indices=True, mask_unchanged=True, palette_file=file)
    assert list(describe_palette(settings)) == [
        "palette: d/palette.yaml: 1 water (0, 0, 255), 2 land (0, 0, 0); void: (255, 255, 255)",
        "palette: the input files have (64, 64, 64) for (0, 0, 0), because black is void there",
        "greyscale maps hold class indices: 0 and 255 void, 1 water, 2 land",
        "masks show the class water",
        "maps are void where both dates have the same class: --mask_unchanged",
    ]


def test_kinds_and_inexact_colours_are_described():
    facts = [
        facts_of(MapFacts("RGB"), MapFacts("JPEG", near=0.5, unclear=0.1)),
        facts_of(MapFacts(), MapFacts("RGBA", translucent=0.25)),
        facts_of(MapFacts("RGB"), MapFacts("RGB", unclear=0.9, foreign=True)),
    ]
    assert list(describe_maps(facts)) == [
        "maps by kind: RGB: 3, JPEG: 1, RGBA: 1",
        "maps with other colours than the palette's: 1; of their pixels 50.00% count as the class with the "
        "closest colour (distance at most 32), 10.00% are unclear: they keep their colours and are no class",
        "maps with partly transparent pixels, which keep their colours: 1 (25.0% of their pixels)",
    ]
    assert list(describe_maps([facts_of(MapFacts(), MapFacts())])) == [], "no maps"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            MapFacts("JPEG", near=0.5),
            "50.0% of its pixels are only close to a class's colour (distance at most 32) and count as that "
            "class: save maps as PNG",
        ),
        (MapFacts("class indices"), "greyscale, read as class indices"),
        (
            MapFacts("RGBA", translucent=0.1),
            "10.0% of its pixels are partly transparent and keep their colours",
        ),
    ],
    ids=["JPEG", "indices", "translucent"],
)
def test_maps_that_are_not_read_exactly_are_remarked_on(facts, line):
    assert remarks(MapFacts("RGB"), facts) == [f"b.png: {line}"]
    assert remarks(facts, MapFacts("RGB")) == [f"a.png: {line}"]


def test_land_cover_maps_are_remarked_on():
    land = SECOND.paint(np.array([[1, 1], [2, 3]])).transpose(1, 2, 0)
    other = SECOND.paint(np.array([[1, 1], [2, 5]])).transpose(1, 2, 0)
    exact = MapFacts("RGB"), MapFacts("RGB")
    assert remarks(*exact, land, other) == [
        "b.png: both maps show the same class in 75% of the pixels, but the model was trained on maps of the "
        "changed areas: make the maps void where nothing has changed"
    ]
    assert remarks(*exact, land, other[::-1, ::-1]) == []
