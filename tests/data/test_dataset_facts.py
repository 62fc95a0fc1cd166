"""The facts that preparation prints: counts as by hand, and what two splits share."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from data.dataset_facts import (
    KEPT_COLOURS,
    MAP_COLOURS,
    ForeignColours,
    ImageFacts,
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
    return ImageFacts((before, after), colours, void=(False, False), strange=(False, False))


def counted(facts: Iterable[ImageFacts]) -> ForeignColours:
    """The colours of the maps of `facts`."""
    colours = ForeignColours()
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
def test_the_source_of_a_tile_is_what_stands_before_its_last_numbers(filename, source):
    assert tile_source(filename) == source


def test_tiles_of_one_picture_in_two_splits_are_found():
    pairs = [pair("3_0_0.png", "train"), pair("3_0_1.png", "train"), pair("4_0_0.png", "train")]
    assert shared_sources(pairs) == []
    assert shared_sources([*pairs, pair("3_1_1.png", "test"), pair("test_000001.png", "test")]) == [
        "train 3_0_0.png and test 3_1_1.png"
    ]


def test_pairs_whose_names_tell_no_source_are_counted():
    pairs = [pair("3_0_0.png", "train"), pair("test_000001.png", "train"), pair("7.png", "test")]
    first, *_ = describe_names(pairs)
    assert first == "source images with tiles in two splits: 0; names tell nothing for 2 pairs"
    first, *_ = describe_names(pairs[:1])
    assert first == "source images with tiles in two splits: 0"


def test_an_augmented_copy_in_its_own_split_is_none_of_another():
    names = ["7.png", "7_random_augment.png"]
    assert stray_copies([pair(name, "train") for name in names]) == []
    assert stray_copies([pair(names[0], "test"), pair(names[1], "train")]) == ["train 7_random_augment.png"]


def test_identical_images_are_told_by_their_pixels():
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
    colours = "(9, 9, 9) in 7 pixels of 1 file; (1, 2, 3) in 6 pixels of 2 files"
    assert line == f"map colours outside the palette: 2 ({colours})"


def test_counted_colours_are_bounded_and_the_commonest_stay():
    colours = ForeignColours()
    for number in range(1000):
        rare = {(number % 256, number // 256, shade): 1 for shade in range(1, MAP_COLOURS)}
        colours.add({(9, 9, 9): 50, **rare})
    assert len(colours.pixels) <= 4 * KEPT_COLOURS + MAP_COLOURS
    counts, warning = colours.describe()
    assert counts.startswith("map colours outside the palette, at least: ")
    assert "((9, 9, 9) in 50000 pixels of 1000 files; " in counts
    assert warning.startswith(
        "WARNING: some maps have 32 or more colours outside the palette: save maps as PNG"
    )


def test_changed_pairs_with_void_maps_and_maps_without_a_class_are_told():
    black, strange = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 77, np.uint8)
    building = np.full((4, 4, 3), (128, 0, 0), np.uint8)
    pairs = [pair(f"{n}.png", "train", changed=n != 3) for n in range(5)]
    maps = [(black, black), (black, building), (strange, building), (black, black), (building, building)]
    facts = [image_facts([black, black, *both]) for both in maps]
    lines = list(describe_images(pairs, facts, counted(facts)))
    assert lines[1] == "changed pairs whose maps are both void: 1 of 4"
    assert (
        lines[2] == "WARNING: pairs with a map in none of the classes' colours (README.md): 1 (train 2.png)"
    )


def test_only_the_first_few_are_named():
    pairs = [pair(f"{number}.png", split) for split in ("train", "test") for number in range(9)]
    facts = [facts_of(f"{number} before", f"{number} after") for _ in range(2) for number in range(9)]
    *_, line = describe_images(pairs, facts, counted(facts))
    assert line.startswith("identical images in two splits: 18 (train 0.png and test 0.png; ")
    assert line.endswith("; ...)")


def test_pairs_are_counted_by_split():
    pairs = [pair("1.png", "train"), pair("1_random_augment.png", "train", "a", "b", changed=False)]
    assert list(describe_pairs(pairs)) == [
        "train: 2 pairs (1 augmented), 1 changed, 1 unchanged",
        "train: 2 pairs without maps, both maps are void",
        "val: 0 pairs (0 augmented), 0 changed, 0 unchanged",
        "test: 0 pairs (0 augmented), 0 changed, 0 unchanged",
        "captions per pair: 1 in 1 pair, 2 in 1 pair; sentences without words dropped: 0",
    ]


def test_unknown_words_and_long_captions_are_counted():
    pairs = [
        pair("1.png", "train", "a house", "a barn"),
        pair("2.png", "test", "a red barn"),
        pair("3.png", "val"),
    ]
    vocabulary = Vocabulary.build(pairs[0].captions, min_word_freq=1)
    assert list(describe_words(pairs, vocabulary, max_length=2)) == [
        "vocabulary: 5 entries, the four special tokens among them, counted over train",
        "train: 4 words, 2 of them unknown (50.00%)",
        "val: 2 words, 1 of them unknown (50.00%)",
        "test: 3 words, 2 of them unknown (66.67%)",
        "captions of more than 2 words, which are not encoded: 1",
    ]


def test_without_train_split_the_vocabulary_is_said_to_be_empty():
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
        assert line == f"{split}: {len(tokens[split])} words, {unknown} of them unknown ({share:.2f}%)"
