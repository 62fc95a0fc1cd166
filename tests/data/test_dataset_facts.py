"""Dataset statistics: counts checked by hand, and overlap between splits."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from data.dataset_facts import (
    KEPT_COLOURS,
    MAP_COLOURS,
    ImageFacts,
    UnknownColours,
    describe_images,
    describe_pairs,
    describe_words,
    image_facts,
    shared_images,
    shared_sources,
    stray_copies,
)
from data.sources import Pair, parse_pairs, tile_source
from data.vocabulary import Vocabulary


def pair(filename: str, split: str, *captions: str, changed: bool = True, maps: bool = False) -> Pair:
    return Pair(
        filename=filename,
        split=split,
        views=(None, None, *[Path(filename) if maps else None] * 2),
        captions=tuple(tuple(caption.split()) for caption in captions or ("a house",)),
        raw=captions or ("a house",),
        changed=changed,
        augmented="_random_augment" in filename,
        source=tile_source(filename),
    )


def facts_of(before: str, after: str, *unknown: dict) -> ImageFacts:
    colours = tuple(unknown) or ({}, {})
    return ImageFacts((16, 16), (before, after), colours, void=(False, False), unknown_only=(False, False))


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


def test_overlap_of_splits_and_pairs_of_unknown_source_are_counted():
    pairs = [pair("3_0_0.png", "train"), pair("3_0_1.png", "test"), pair("7.png", "test")]
    facts = [facts_of("a", "b"), facts_of("a", "c"), facts_of("d", "e")]
    *_, line = describe_images(pairs, facts)
    assert line == (
        "in two splits: identical images: 1, source images: 1, augmented copies of a pair: 0; "
        "pairs of unknown source: 1"
    )


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
    facts = [facts_of("a", "b", {(1, 2, 3): 5}, {(1, 2, 3): 1}), facts_of("c", "d", {}, {(9, 9, 9): 7})]
    colours = counted(facts)
    assert colours.pixels.most_common() == [((9, 9, 9), 7), ((1, 2, 3), 6)]
    assert colours.files == {(9, 9, 9): 1, (1, 2, 3): 2}


def test_number_of_counted_colours_is_bounded_and_the_most_common_are_kept():
    colours = UnknownColours()
    for number in range(1000):
        rare = {(number % 256, number // 256, shade): 1 for shade in range(1, MAP_COLOURS)}
        colours.add({(9, 9, 9): 50, **rare})
    assert len(colours.pixels) <= 4 * KEPT_COLOURS + MAP_COLOURS
    assert not colours.complete
    assert colours.pixels[9, 9, 9] == 50_000
    assert colours.files[9, 9, 9] == 1000


def test_image_sizes_are_counted_before_resizing():
    black, wide = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 9, 3), np.uint8)
    facts = [image_facts([view] * 4) for view in (black, wide, wide)]
    line, *_ = describe_images([pair(f"{n}.png", "train") for n in range(3)], facts)
    assert line == "image sizes, rows x columns (number of pairs): 4 x 9 (2), 4 x 4 (1)"


def test_pairs_are_counted_by_split():
    pairs = [pair("1.png", "train"), pair("1_random_augment.png", "train", "a", "b", changed=False)]
    assert list(describe_pairs(pairs)) == [
        "train: 2 pairs (1 augmented), 1 changed, 1 unchanged",
        "train: pairs without maps (both maps are void): 2",
        "val: 0 pairs (0 augmented), 0 changed, 0 unchanged",
        "test: 0 pairs (0 augmented), 0 changed, 0 unchanged",
        "captions per pair (number of pairs): 1 (1), 2 (1)",
    ]


def test_unknown_words_are_counted():
    pairs = [
        pair("1.png", "train", "a house", "a barn"),
        pair("2.png", "test", "a red barn"),
        pair("3.png", "val"),
    ]
    vocabulary = Vocabulary.build(pairs[0].captions, min_word_freq=1)
    assert list(describe_words(pairs, vocabulary, "train")) == [
        "vocabulary: 5 entries including the four special tokens, built from train",
        "train: words: 4, unknown: 2 (50.00%)",
        "val: words: 2, unknown: 1 (50.00%)",
        "test: words: 3, unknown: 2 (66.67%)",
    ]


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
    lines = list(describe_words(pairs, Vocabulary.build(train, min_word_freq=5), "train"))

    assert lines[0].startswith(f"vocabulary: {len(known) + 4} entries")
    for split, line in zip(("train", "val", "test"), lines[1:4], strict=True):
        unknown = sum(token not in known for token in tokens[split])
        share = 100 * unknown / len(tokens[split])
        assert line == f"{split}: words: {len(tokens[split])}, unknown: {unknown} ({share:.2f}%)"
