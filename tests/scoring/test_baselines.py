"""The best constant caption equals the best of all training captions by brute force."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from tools.scoring.baselines import SHORTLIST, best_constants, split_parts, training_captions
from tools.scoring.constant_scores import constant_scores
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import measure

WORDS = [
    "a",
    "the",
    "road",
    "house",
    "houses",
    "tree",
    "is",
    "are",
    "built",
    "near",
    "river",
    "some",
    "appear",
]
SAME, ALIKE = "nothing changed here", "both images look alike"


def corpus(seed: int, pairs: int, vocabulary: list[str], longest: int) -> list[tuple[str, ...]]:
    """References of random words, one to five of each pair, with repeats within and between pairs."""
    draw = random.Random(seed)
    pool = [" ".join(draw.choices(vocabulary, k=draw.randint(1, longest))) for _ in range(2 * pairs)]
    return [tuple(draw.choices(pool, k=draw.randint(1, 5))) for _ in range(pairs)]


def distinct(references: list[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(caption for texts in references for caption in texts))


def brute_force(references: list, candidates: list[str], meteor: Meteor) -> dict[str, dict[str, float]]:
    """The scores of every candidate as the caption of every pair, by all metrics."""
    actual = {}
    for caption in candidates:
        measured = measure([(caption, texts) for texts in references], meteor)
        actual[caption] = {m: float(s) for m, s in measured.scores(np.ones(len(references))).items()}
    return actual


CORPORA = {
    "random words": corpus(0, 12, WORDS, 9),
    "few words": corpus(1, 10, ["a", "b"], 6),
    "one word each": corpus(2, 8, WORDS, 1),
    "a single pair": corpus(3, 1, WORDS, 8),
    "alike pairs": [("a road is built", "a new road")] * 4,
    "a loop": [("a road a road a road", "a a a a"), ("a road",), ("road a road a", "a house")],
    "mostly unchanged": [(SAME, ALIKE)] * 9 + [("a house appears", "some houses are built")] * 2,
    "long captions": [(" ".join(WORDS * 5), "a road"), (" ".join(WORDS[:8] * 17), " ".join(WORDS[::-1] * 9))],
    "another language": [
        ("rien n'a changé", "aucune différence"),
        ("une maison apparaît",),
        ("rien n'a changé",),
    ],
}


@pytest.mark.parametrize("name", CORPORA)
def test_fast_scores_equal_the_metrics(name, meteor):
    references = CORPORA[name]
    candidates = [*distinct(references), "a strange caption", "a"]
    (fast,) = constant_scores([Counter(references)], candidates)
    for number, (caption, exact) in enumerate(brute_force(references, candidates, meteor).items()):
        assert set(fast) == set(exact) & {"bleu_4", "rouge_l", "cider"}
        for metric, values in fast.items():
            assert values[number] == pytest.approx(exact[metric], abs=1e-4), (metric, caption)


@pytest.mark.parametrize("name", CORPORA)
def test_the_best_constant_is_the_best_of_all_by_brute_force(name, meteor):
    references = CORPORA[name]
    exact = brute_force(references, distinct(references), meteor)
    best = best_constants({"all": references}, distinct(references), meteor)["all"]
    assert exact[best]["s_m"] == pytest.approx(max(scores["s_m"] for scores in exact.values()), abs=1e-6)


def test_each_part_has_its_own_constant_and_frequencies(meteor):
    references = [*CORPORA["random words"], *CORPORA["mostly unchanged"]]
    parts = split_parts(references, [number < 14 for number in range(len(references))])
    captions = distinct(references)
    best = best_constants(parts, captions, meteor)
    for part, texts in parts.items():
        exact = brute_force(texts, captions, meteor)
        assert exact[best[part]]["s_m"] == pytest.approx(max(s["s_m"] for s in exact.values()), abs=1e-6)
    assert best["unchanged"] in (SAME, ALIKE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("segments", [1, 100])
def test_meteor_on_a_sample_is_not_worse_than_without_meteor(meteor, seed, segments):
    references = corpus(10 + seed, 60, WORDS, 7)
    candidates = distinct(references)
    assert len(candidates) > SHORTLIST
    (fast,) = constant_scores([Counter(references)], candidates)
    simple = candidates[int(np.argmax(sum(fast.values())))]
    best = best_constants({"all": references}, candidates, meteor, segments)["all"]
    exact = brute_force(references, [best, simple], meteor)
    assert exact[best]["s_m"] >= exact[simple]["s_m"] - 1e-9


def test_without_meteor_the_other_metrics_decide(tmp_path):
    references = CORPORA["mostly unchanged"]
    with Meteor(java=tmp_path / "absent") as broken:
        assert best_constants({"all": references}, distinct(references), broken)["all"] in (SAME, ALIKE)


def test_parts_without_pairs_and_no_candidates(meteor):
    assert best_constants({"all": [(SAME,)], "changed": []}, [SAME], meteor) == {"all": SAME}
    assert best_constants({"all": [(SAME,)]}, [], meteor) == {}


def test_training_captions_are_all_distinct_captions_of_the_rows_in_use(meteor):
    reader = SimpleNamespace(
        references=[["a road", SAME], ["a house"], [SAME, SAME], ["never used"]],
        changed=np.array([True, True, False, True]),
        path="train.hdf5",
    )
    actual = training_captions(reader, [0, 1, 2], meteor)
    assert actual.captions == ["a road", SAME, "a house"]
    assert set(actual.best) == {"all", "changed", "unchanged"}
    assert actual.best_of("unchanged") == SAME
    only_changed = training_captions(reader, [0, 1], meteor)
    assert only_changed.best_of("unchanged") == only_changed.best["all"]
