"""Dataset statistics: counts checked by hand, and overlap between splits."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from data.dataset_facts import (
    KEPT_COLOURS,
    MAP_COLOURS,
    ImageFacts,
    UnknownColours,
    describe_images,
    describe_names,
    describe_pairs,
    describe_words,
    image_facts,
    shared_images,
    shared_sources,
    stray_copies,
)
from data.sources import Pair, parse_pairs, tile_source
from data.vocabulary import Vocabulary


def pair(filename: str, split: str, *captions: str, changed: bool = True) -> Pair:
    return Pair(
        filename=filename,
        split=split,
        views=(None, None, None, None),
        captions=tuple(tuple(caption.split()) for caption in captions or ("a house",)),
        raw=captions or ("a house",),
        changed=changed,
        augmented="_random_augment" in filename,
        source=tile_source(filename),
    )


def facts_of(before: str, after: str, *unknown: dict) -> ImageFacts:
    colours = tuple(unknown) or ({}, {})
    return ImageFacts((before, after), colours, void=(False, False), unknown_only=(False, False))


def counted(facts: Iterable[ImageFacts]) -> UnknownColours:
    """The colours of the maps of `facts`."""
    colours = UnknownColours()
    for fact in facts:
        for unknown in fact.unknown:
            colours.add(unknown)
    return colours


@pytest.mark.parametrize(
    ("filename", "source"),
    [
        ("00003_0_256.png", "00003"),
        ("00003-1.png", "00003"),
        ("train_12_0_256.png", "train_12"),
        ("12_3_4_5.png", "12_3"),
        ("00003_0_256_random_augment_7.png", "00003"),
        ("test_000656.png", None),
        ("test_0_256.png", "test_0"),
        ("00003.png", None),
        ("house.png", None),
    ],
)
def test_source_of_a_tile_is_its_name_without_the_last_numbers(filename, source):
    assert tile_source(filename) == source


def test_source_image_with_tiles_in_two_splits_is_listed():
    pairs = [pair("3_0_0.png", "train"), pair("3_0_1.png", "train"), pair("4_0_0.png", "train")]
    assert shared_sources(pairs) == []
    assert shared_sources([*pairs, pair("3_1_1.png", "test"), pair("test_000001.png", "test")]) == [
        "train 3_0_0.png and test 3_1_1.png"
    ]


def test_pairs_of_unknown_source_are_counted():
    pairs = [pair("3_0_0.png", "train"), pair("test_000001.png", "train"), pair("7.png", "test")]
    first, *_ = describe_names(pairs)
    assert first == "source images with tiles in two splits: 0; pairs of unknown source: 2"
    first, *_ = describe_names(pairs[:1])
    assert first == "source images with tiles in two splits: 0"


def test_augmented_copy_in_the_split_of_its_original_is_not_listed():
    names = ["7.png", "7_random_augment.png"]
    assert stray_copies([pair(name, "train") for name in names]) == []
    assert stray_copies([pair(names[0], "test"), pair(names[1], "train")]) == ["train 7_random_augment.png"]


def test_identical_images_have_equal_pixels_and_shapes():
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    first = image_facts([black, white, black, black])
    again = image_facts([white, white, black, black])
    turned = image_facts([black.reshape(6, 4, 3), black.reshape(6, 4, 3), black, black])
    pairs = [pair("1.png", "train"), pair("2.png", "val"), pair("3.png", "test")]
    assert shared_images(pairs, [first, again, turned]) == ["train 1.png and val 2.png"]


def test_unknown_colours_are_counted_in_pixels_and_files():
    pairs = [pair("1.png", "train"), pair("2.png", "train")]
    facts = [facts_of("a", "b", {(1, 2, 3): 5}, {(1, 2, 3): 1}), facts_of("c", "d", {}, {(9, 9, 9): 7})]
    line = next(describe_images(pairs, facts, counted(facts)))
    colours = "(9, 9, 9) files: 1, pixels: 7; (1, 2, 3) files: 2, pixels: 6"
    assert line == f"map colours outside the palette: 2 ({colours})"


def test_number_of_counted_colours_is_bounded_and_the_most_common_are_kept():
    colours = UnknownColours()
    for number in range(1000):
        rare = {(number % 256, number // 256, shade): 1 for shade in range(1, MAP_COLOURS)}
        colours.add({(9, 9, 9): 50, **rare})
    assert len(colours.pixels) <= 4 * KEPT_COLOURS + MAP_COLOURS
    counts, warning = colours.describe()
    assert counts.startswith("map colours outside the palette, at least: ")
    assert "((9, 9, 9) files: 1000, pixels: 50000; " in counts
    assert warning.startswith(
        "WARNING: some maps have 32 or more colours outside the palette: save maps as PNG"
    )


def test_changed_pairs_with_void_maps_and_maps_without_a_class_are_listed():
    black, unknown = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 77, np.uint8)
    building = np.full((4, 4, 3), (128, 0, 0), np.uint8)
    pairs = [pair(f"{n}.png", "train", changed=n != 3) for n in range(5)]
    maps = [(black, black), (black, building), (unknown, building), (black, black), (building, building)]
    facts = [image_facts([black, black, *both]) for both in maps]
    lines = list(describe_images(pairs, facts, counted(facts)))
    assert lines[1] == "changed pairs whose maps are both void: 1 of 4"
    assert (
        lines[2]
        == "WARNING: pairs with a map in none of the classes' colours (docs/data.md): 1 (train 2.png)"
    )


def test_only_the_first_few_items_are_listed():
    pairs = [pair(f"{number}.png", split) for split in ("train", "test") for number in range(9)]
    facts = [facts_of(f"{number} before", f"{number} after") for _ in range(2) for number in range(9)]
    *_, line = describe_images(pairs, facts, counted(facts))
    assert line.startswith("identical images in two splits: 18 (train 0.png and test 0.png; ")
    assert line.endswith("; ...)")


def test_pairs_are_counted_by_split():
    pairs = [pair("1.png", "train"), pair("1_random_augment.png", "train", "a", "b", changed=False)]
    assert list(describe_pairs(pairs)) == [
        "train: pairs: 2, augmented: 1, changed: 1, unchanged: 1",
        "train: pairs without maps (both maps are void): 2",
        "val: pairs: 0, augmented: 0, changed: 0, unchanged: 0",
        "test: pairs: 0, augmented: 0, changed: 0, unchanged: 0",
        "captions per pair (number of pairs): 1 (1), 2 (1); sentences without words, which are dropped: 0",
    ]


def test_unknown_words_and_long_captions_are_counted():
    pairs = [
        pair("1.png", "train", "a house", "a barn"),
        pair("2.png", "test", "a red barn"),
        pair("3.png", "val"),
    ]
    vocabulary = Vocabulary.build(pairs[0].captions, min_word_freq=1)
    assert list(describe_words(pairs, vocabulary, max_length=2)) == [
        "vocabulary: 5 entries including the four special tokens, built from train",
        "train: words: 4, unknown: 2 (50.00%)",
        "val: words: 2, unknown: 1 (50.00%)",
        "test: words: 3, unknown: 2 (66.67%)",
        "captions of more than 2 words, which are not encoded: 1",
    ]


def test_empty_vocabulary_without_a_train_split_is_explained():
    pairs = [pair("1.png", "test")]
    lines = list(describe_words(pairs, Vocabulary.build([], 5), max_length=50))
    assert any("no train split" in line for line in lines)


@pytest.mark.real
def test_shares_of_unknown_words_on_real_captions_agree_with_a_direct_count(real_data, tmp_path):
    annotations = tmp_path / "captions.json"
    annotations.write_bytes(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))
    tokens = {"train": [], "val": [], "test": []}
    for image in json.loads(annotations.read_text())["images"]:
        tokens[image["split"]] += [token for sentence in image["sentences"] for token in sentence["tokens"]]
    known = {token for token, count in Counter(tokens["train"]).items() if count > 5}

    pairs = parse_pairs(tmp_path, annotations)
    train = (words for pair in pairs if pair.split == "train" for words in pair.captions)
    lines = list(describe_words(pairs, Vocabulary.build(train, min_word_freq=5), max_length=50))

    assert lines[0].startswith(f"vocabulary: {len(known) + 4} entries")
    for split, line in zip(("train", "val", "test"), lines[1:4], strict=True):
        unknown = sum(token not in known for token in tokens[split])
        share = 100 * unknown / len(tokens[split])
        assert line == f"{split}: words: {len(tokens[split])}, unknown: {unknown} ({share:.2f}%)"
