"""The rank of a caption's own pair equals the rank by brute force, and a constant ranks every pair alike."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from tools.scoring.own_pair import OwnPair, ranks

HOUSE, LAKE, ROAD = ("a house appears",), ("a lake disappears",), ("a road is built", "one road")


def scores(segments: list) -> dict[str, float]:
    rows = OwnPair().rows(segments)
    return {name: float(100 * value) for name, value in OwnPair.scores(rows.sum(0), len(segments)).items()}


def test_captions_that_find_their_pair_and_one_that_finds_another():
    perfect = [("a house appears", HOUSE), ("a lake disappears", LAKE), ("a road", ROAD)]
    assert scores(perfect) == pytest.approx({"own_pair": 100, "own_pair_1": 100, "own_pair_10": 100})
    rows = OwnPair().rows([("a house appears", HOUSE), ("a house appears", LAKE), ("a road", ROAD)])
    # The second caption is nearer to the house; lake and road share only the word "a" with it, and the
    # road's references are longer: its own pair is in the middle.
    assert rows[:, 0].tolist() == [1, 0.5, 1]
    assert rows[:, 1].tolist() == [1, 0, 1]


def test_ties_count_half():
    better, ties = ranks([("nothing known", HOUSE), ("a house appears", HOUSE), ("a lake", LAKE)])
    assert better.tolist() == [0, 0, 0]
    assert ties.tolist() == [2, 1, 0]
    rows = OwnPair().rows([("nothing known", HOUSE), ("a house appears", HOUSE), ("a lake", LAKE)])
    assert rows[:, 0].tolist() == [0.5, 0.75, 1]
    assert rows[:, 1] == pytest.approx([1 / 3, 1 / 2, 1])


def corpus(pairs: int, seed: int = 0) -> list:
    draw = random.Random(seed)
    words = ["a", "house", "road", "lake", "is", "built", "removed", "near", "trees"]

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, 9)))

    return [(sentence(), tuple(sentence() for _ in range(draw.randint(1, 5)))) for _ in range(pairs)]


@pytest.mark.parametrize("caption", ["a house is built near a road", "", "unknown words"])
def test_any_constant_has_exactly_50(caption):
    segments = [(caption, references) for _, references in corpus(201)]
    assert scores(segments)["own_pair"] == pytest.approx(50, abs=1e-9)
    assert scores(segments)["own_pair_1"] == pytest.approx(100 / 201)
    assert scores(segments)["own_pair_10"] == pytest.approx(1000 / 201)


def brute_force(segments: list) -> list[int]:
    """How many other pairs are more similar to each caption than its own, by plain dicts."""

    def grams(texts: tuple[str, ...]) -> Counter:
        return Counter(
            tuple(words[start : start + order])
            for words in (text.split() for text in texts)
            for order in range(1, 5)
            for start in range(len(words) - order + 1)
        )

    documents = [grams(references) for _, references in segments]
    frequency = Counter(gram for document in documents for gram in document)
    idf = {gram: math.log((1 + len(segments)) / (1 + count)) + 1 for gram, count in frequency.items()}

    def weights(counts: Counter) -> dict:
        weighted = {gram: count * idf[gram] for gram, count in counts.items() if gram in idf}
        length = math.sqrt(sum(value**2 for value in weighted.values()))
        return {gram: value / length for gram, value in weighted.items()}

    pairs = [weights(document) for document in documents]
    better = []
    for own, (caption, _) in enumerate(segments):
        weighted = weights(grams((caption,)))
        similar = [sum(value * pair.get(g, 0) for g, value in weighted.items()) for pair in pairs]
        better.append(sum(value > similar[own] + 1e-8 for value in similar))
    return better


@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_brute_force(seed):
    segments = corpus(40, seed)
    assert ranks(segments)[0].tolist() == brute_force(segments)


def test_a_repeated_pair_ties_with_itself():
    better, ties = ranks([("a house appears", HOUSE)] * 3)
    assert better.tolist() == [0, 0, 0]
    assert ties.tolist() == [2, 2, 2]


def test_the_rank_has_no_value_where_all_references_are_equal():
    assert "same references" in OwnPair.reason_to_leave_out([HOUSE, HOUSE])
    assert OwnPair.reason_to_leave_out([HOUSE, LAKE]) is None
    assert OwnPair().rows([("a house", HOUSE)]).tolist() == [[0.5, 1, 1]]
    assert np.isfinite(OwnPair().rows([("", HOUSE), ("", LAKE)])).all()
