"""Warnings about a dataset: what triggers each one, and that all name a remedy."""

from pathlib import Path

import numpy as np

from data.data_warning import DataWarning, warning_lines
from data.dataset_facts import MAP_COLOURS, UnknownColours, image_facts
from data.dataset_warnings import (
    remark_on_amounts,
    remark_on_sizes,
    warn_of_captions,
    warn_of_images,
    warn_of_maps,
    warn_of_sizes,
    warn_of_splits,
)
from data.maps.settings import MapSettings
from tests.data.test_dataset_facts import counted, facts_of, pair

BLACK, NAMELESS = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 77, np.uint8)
BUILDING = np.full((4, 4, 3), (128, 0, 0), np.uint8)


def with_maps(filename: str, split: str, changed: bool = True):
    """A pair with two map files."""
    return pair(filename, split, changed=changed, maps=True)


def problems(warnings) -> list[str]:
    warnings = list(warnings)
    assert all(warning.remedy for warning in warnings)
    return [warning.problem for warning in warnings]


def test_only_the_first_five_warnings_have_examples():
    warnings = [DataWarning(f"fault {n}", "mend it", [f"{n}.png"]) for n in range(6)]
    heading, *lines = warning_lines(warnings)
    assert heading == "warnings: 6"
    assert lines[4:] == ["- fault 4 (4.png): mend it", "- fault 5: mend it"]
    assert warning_lines([]) == []


def test_only_the_first_few_examples_are_listed():
    line = DataWarning("fault", "mend it", [f"{n}.png" for n in range(9)]).line(with_examples=True)
    assert line == "fault (0.png; 1.png; 2.png; 3.png; 4.png; ...): mend it"


def test_empty_and_small_splits_are_warned_of():
    pairs = [pair(f"{n}.png", "train", changed=n > 0) for n in range(99)]
    pairs += [pair("9_random_augment.png", "train"), *(pair(f"{n}.png", "val") for n in range(20))]
    assert problems(warn_of_splits(pairs)) == ["splits without pairs: test"]
    (remark,) = remark_on_amounts(pairs)
    assert remark.startswith("few pairs: train 99: start from a trained model with train.start_from")
    assert list(remark_on_amounts([pair(f"{n}.png", "train") for n in range(100)])) == []


def test_training_pairs_that_are_all_alike_are_warned_of():
    for changed, alike in ((True, "changed"), (False, "unchanged")):
        pairs = [pair(f"{n}.png", s, changed=changed) for s in ("train", "val", "test") for n in range(100)]
        assert problems(warn_of_splits(pairs)) == [f"train: all pairs are {alike}"]


def test_squeezed_images_are_warned_of_and_other_resized_ones_remarked_on():
    facts = [image_facts([np.zeros((*size, 3), np.uint8)] * 4) for size in ((4, 8), (8, 8), (4, 4), (8, 8))]
    (warning,) = warn_of_sizes(facts, 4)
    assert warning.problem == (
        "pairs resized to 4 x 4: 1; rows x columns (pairs): 4 x 8 (1), which changes their aspect ratio"
    )
    assert warning.remedy.startswith("--tile cuts larger pairs into tiles")
    (remark,) = remark_on_sizes(facts, 4)
    assert remark.startswith(
        "pairs resized to 4 x 4: 2; rows x columns (pairs): 8 x 8 (2): --tile cuts larger"
    )
    (warning,) = warn_of_sizes(facts, 16)
    assert warning.remedy == "they are smaller than the input: --image_size sets another input size"
    assert list(warn_of_sizes(facts[1:3], 4)) == list(remark_on_sizes([facts[0], facts[2]], 4)) == []


def test_maps_that_contradict_the_change_flag_are_warned_of():
    changed = [True, True, False, False, True]
    maps = [(BLACK, BLACK), (BLACK, BUILDING), (BLACK, BLACK), (BUILDING, BUILDING), (NAMELESS, BUILDING)]
    pairs = [with_maps(f"{n}.png", "train", changed=flag) for n, flag in enumerate(changed)]
    facts = [image_facts([BLACK, BLACK, *both]) for both in maps]
    nameless, void, drawn = warn_of_maps(pairs, facts, UnknownColours())
    assert (nameless.problem, nameless.examples) == (
        "pairs with a map in none of the classes' colours: 1",
        ["train 4.png"],
    )
    assert nameless.remedy == "write palette.yaml with your classes, or repaint them (docs/data.md)"
    colours, settings = counted(facts), MapSettings(palette_file=Path("d/palette.yaml"))
    _, nameless, *_ = warn_of_maps(pairs, facts, colours, settings)
    assert nameless.remedy == "add the colour (77, 77, 77) to d/palette.yaml, as classes or under `void`"
    assert (void.problem, void.examples) == ("changed pairs whose maps are both void: 1", ["train 0.png"])
    assert (drawn.problem, drawn.examples) == ("unchanged pairs whose maps are not void: 1", ["train 3.png"])


def test_pairs_without_map_files_contradict_nothing():
    facts = [image_facts([BLACK, BUILDING, BLACK, BLACK])]
    assert list(warn_of_maps([pair("1.png", "train")], facts, UnknownColours())) == []


def test_unknown_colours_are_listed_with_their_counts():
    colours = counted([facts_of("a", "b", {(1, 2, 3): 5}, {(9, 9, 9): 7})])
    (warning,) = warn_of_maps([], [], colours)
    assert warning.problem == "map colours outside the palette: 2"
    assert warning.examples == ["(9, 9, 9) files: 1, pixels: 7", "(1, 2, 3) files: 1, pixels: 5"]
    assert warning.remedy == (
        "the change detector and map noise take them for void: write palette.yaml with your classes, or "
        "repaint them (docs/data.md)"
    )
    (warning,) = warn_of_maps([], [], colours, MapSettings(palette_file=Path("d/palette.yaml")))
    assert warning.remedy.endswith(
        ": add the colours (9, 9, 9), (1, 2, 3) to d/palette.yaml, as classes or under `void`"
    )
    colours.add({(4, 4, shade): 1 for shade in range(MAP_COLOURS)})
    (warning,) = warn_of_maps([], [], colours)
    assert warning.problem == "map colours outside the palette: at least 34, in some maps 32 or more"
    assert warning.remedy.startswith("save maps as PNG")


def test_copied_images_and_overlap_of_splits_are_warned_of():
    pairs = [pair("3_0_0.png", "train"), pair("3_0_1.png", "test"), pair("8_random_augment.png", "train")]
    pairs += [pair("8.png", "test"), pair("9.png", "train", changed=False)]
    facts = [
        facts_of("a", "b"),
        facts_of("a", "c"),
        facts_of("d", "d"),
        facts_of("e", "f"),
        facts_of("g", "g"),
    ]
    assert problems(warn_of_images(pairs, facts)) == [
        "changed pairs whose two images are identical: 1",
        "identical images in two splits: 1",
        "source images with tiles in two splits: 1",
        "augmented copies of another split's pair: 1",
    ]


def test_captions_that_are_not_encoded_are_warned_of():
    pairs = [pair("1.png", "train", "a", "b", "c d e"), pair("2.png", "train", "a")]
    assert problems(warn_of_captions(pairs, [pairs[1]], captions_per_image=1, max_length=2)) == [
        "pairs left out because all their captions have more than 2 words: 1",
        "captions of more than 2 words, which are not encoded: 1",
        "captions beyond the first 1 of a pair, which are not encoded: 1",
    ]
    assert list(warn_of_captions(pairs, [], captions_per_image=3, max_length=3)) == []


def test_captions_that_are_repeated_for_all_pairs_are_warned_of_once():
    pairs = [pair("1.png", "train", "a", "b"), pair("2.png", "train", "a"), pair("3.png", "val", "a")]
    (warning,) = warn_of_captions(pairs, [], captions_per_image=5, max_length=3)
    assert warning.problem == "all pairs have fewer than 5 captions, so captions are repeated"
    assert warning.remedy == "give --captions_per_image 2"
    assert list(warn_of_captions(pairs, [], captions_per_image=2, max_length=3)) == []
