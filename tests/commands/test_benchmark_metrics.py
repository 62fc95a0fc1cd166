"""tools/benchmark_metrics.py: the errors that it makes, how it counts wins, and the command itself."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.sources import NO_CHANGE_SENTENCES
from tests.conftest import entry
from tools import benchmark_metrics
from tools.scoring.fact_reader import FactReader
from tools.scoring.fact_words import read_fact_words
from tools.scoring.meteor import Meteor
from tools.studies.caption_errors import ERRORS, Captioned, ErrorMaker
from tools.studies.metric_separation import (
    ALL_ERRORS,
    CONSTANT,
    HUMAN,
    TITLES,
    MetricComparison,
    choose_captions,
)

pytestmark = pytest.mark.integration

WORDS = read_fact_words()
CAPTIONS = [
    "two houses are built in the top left corner",
    "trees are removed and a road appears",
    "a lake replaces the bareland",
    "the grass is replaced by a parking lot",
    "a playground is built on the right",
    "some cars disappear",
]
REFERENCES = [
    ("houses appear", "some villas are built"),
    ("a road is built", "the forest disappears"),
    ("a pond is built", "some water appears"),
    ("a parking lot appears", "grass is removed"),
    ("a playground appears", "a playground is constructed"),
    ("vehicles disappear", "some cars are gone"),
]
PAIRS = [Captioned(*pair) for pair in zip(CAPTIONS, REFERENCES, strict=True)]


@pytest.fixture(scope="module")
def maker() -> ErrorMaker:
    return ErrorMaker(PAIRS, WORDS, NO_CHANGE_SENTENCES)


REVERSED = {
    "houses are built along the road": "houses are removed along the road",
    "trees have been cut down and a villa appears": "trees have been built and a villa disappears",
    "the trees are replaced by houses": "the trees replace houses",
    "the trees have been replaced by houses": "the trees have replaced houses",
    "houses replace the trees": "houses give way to the trees",
    "houses are built to replace trees": "houses are removed to make way for trees",
    "the woods turn into roads": "the woods replace roads",
    "the land is developed into a town": "the land replace a town",
    "villas have been newly built": "villas have been newly removed",
    "a building disappeared": "a building appeared",
}


@pytest.mark.parametrize("caption", REVERSED)
def test_a_reversed_direction(caption):
    maker = ErrorMaker([Captioned(caption, ("a reference",))], WORDS, NO_CHANGE_SENTENCES)
    assert maker.captions("direction reversed") == [REVERSED[caption]]


def test_a_caption_without_words_for_an_error_has_none(maker):
    lonely = ErrorMaker([Captioned("something new", ("a reference",))], WORDS, NO_CHANGE_SENTENCES)
    for kind in ("direction reversed", "class exchanged", "place exchanged", "wrong number", "omission"):
        assert lonely.captions(kind) == [None], kind
    assert maker.captions("wrong number")[1:] == [None] * 5


def test_places_numbers_and_no_change(maker):
    place = maker.captions("place exchanged")
    assert place[0] == "two houses are built in the bottom right corner"
    assert place[4] == "a playground is built on the left"
    (number, *_) = maker.captions("wrong number")
    assert number.split()[1:] == CAPTIONS[0].split()[1:]
    assert number.split()[0] in ("three", "four", "five", "six", "seven", "eight", "nine", "ten")
    assert set(maker.captions('"no change"')) <= set(NO_CHANGE_SENTENCES)


def test_an_omission_leaves_a_sentence(maker):
    assert maker.captions("omission")[1] in ("trees are removed", "a road appears")
    listed = ErrorMaker([Captioned("roads and houses are built", ())], WORDS, NO_CHANGE_SENTENCES)
    assert listed.captions("omission") == ["houses are built"]


@pytest.mark.parametrize("kind", ["class exchanged", "invention"])
def test_a_foreign_class_is_one_that_nobody_names(maker, kind):
    reader = FactReader(WORDS)
    for pair, wrong in zip(PAIRS, maker.captions(kind), strict=True):
        named = {fact.label for text in (pair.caption, *pair.references) for fact in reader.facts(text)}
        new = {fact.label for fact in reader.facts(wrong)} - {
            fact.label for fact in reader.facts(pair.caption)
        }
        assert len(new) == 1
        assert new.isdisjoint(agreeing for label in named for agreeing in WORDS.agreeing[label])
        assert wrong.startswith(pair.caption + " and ") == (kind == "invention")


def test_other_captions_and_shuffled_words(maker):
    for pair, other, shuffled in zip(
        PAIRS, maker.captions("other pair's caption"), maker.captions("words shuffled"), strict=True
    ):
        assert other is None or other in set(CAPTIONS) - {pair.caption}
        assert sorted(shuffled.split()) == sorted(pair.caption.split())
        assert shuffled != pair.caption


def test_errors_depend_on_the_seed_alone(maker):
    again = ErrorMaker(PAIRS, WORDS, NO_CHANGE_SENTENCES)
    other = ErrorMaker(PAIRS, WORDS, NO_CHANGE_SENTENCES, seed=1)
    assert all(maker.captions(kind) == again.captions(kind) for kind in ERRORS)
    assert maker.captions("words shuffled") != other.captions("words shuffled")


def test_captions_are_drawn_from_pairs_with_others():
    chosen = choose_captions([("a", "b", "c"), ("alone",), ("d", "e")], seed=0)
    assert [sorted((pair.caption, *pair.references)) for pair in chosen] == [["a", "b", "c"], ["d", "e"]]


@pytest.fixture(scope="module")
def comparison(maker, meteor) -> MetricComparison:
    return MetricComparison(PAIRS, maker, meteor, resamples=20)


def test_separation_by_hand(comparison):
    errors = comparison.separation()
    # every person's caption has an F1 above 0, every reversed one and every "no change" has 0
    for kind in ("direction reversed", '"no change"'):
        assert errors[kind]["n"] == 6
        assert errors[kind]["auc"]["fact_f1"] == {"value": 1, "low": 1, "high": 1}
        assert errors[kind]["preferred"]["fact_f1"]["value"] == 1
        assert errors[kind]["auc"]["fact_contradiction"]["value"] == 1
    # scores that an error does not touch are at chance
    assert errors["place exchanged"]["n"] == 2
    assert errors["place exchanged"]["preferred"]["fact_contradiction"]["value"] == 0.5
    assert errors[ALL_ERRORS]["n"] == sum(own["n"] for kind, own in errors.items() if kind != ALL_ERRORS)
    assert all(set(own["auc"]) == set(TITLES) for own in errors.values())


def test_auc_and_preference_equal_brute_force(comparison, maker):
    human = comparison._pair_scores(CAPTIONS)["rouge_l"]
    pooled, members, wins = [], [], []
    for kind in ERRORS:
        captions = maker.captions(kind)
        filled = [wrong or caption for wrong, caption in zip(captions, CAPTIONS, strict=True)]
        scores = comparison._pair_scores(filled)["rouge_l"]
        for pair, wrong in enumerate(captions):
            if wrong is not None:
                pooled.append(scores[pair])
                members.append(pair)

    def win(one: float, other: float) -> float:
        return 0.5 if abs(one - other) < 1e-9 else float(one > other)

    wins = [win(person, wrong) for person in human for wrong in pooled]
    own = [win(human[pair], wrong) for pair, wrong in zip(members, pooled, strict=True)]
    all_errors = comparison.separation()[ALL_ERRORS]
    assert all_errors["auc"]["rouge_l"]["value"] == pytest.approx(np.mean(wins))
    assert all_errors["preferred"]["rouge_l"]["value"] == pytest.approx(np.mean(own))


def test_systems_by_hand(comparison):
    systems = comparison.systems()
    assert list(systems) == [HUMAN, CONSTANT, "direction reversed", '"no change"', "other pair's caption"]
    assert systems[CONSTANT]["caption"] in CAPTIONS
    assert systems[CONSTANT]["scores"]["own_pair"]["value"] == pytest.approx(50)
    assert systems["direction reversed"]["scores"]["fact_f1"]["value"] == 0
    assert systems["direction reversed"]["scores"]["fact_contradiction"]["value"] == 100
    assert systems['"no change"']["scores"]["fact_none"]["value"] == 100
    assert systems[HUMAN]["scores"]["fact_contradiction"]["value"] == 0


def test_a_failing_metric_is_not_skipped_in_silence(maker, tmp_path):
    with (
        Meteor(java=tmp_path / "absent") as broken,
        pytest.raises(Exception, match="Java could not be started"),
    ):
        MetricComparison(PAIRS, maker, broken, resamples=2).separation()


def test_pairs_with_the_same_captions_are_refused(meteor):
    same = [Captioned("a road appears", ("a road appears",))] * 2
    maker = ErrorMaker(same, WORDS, NO_CHANGE_SENTENCES)
    with pytest.raises(
        UserError, match="cider: left out, all pairs have the same n-grams.*: give more pairs"
    ):
        MetricComparison(same, maker, meteor, resamples=2).separation()


def annotations() -> dict:
    """Six changed test pairs, an unchanged one, an augmented one, and one of another split."""
    images = [
        entry(f"{number}.png", "test", caption, *references)
        for number, (caption, references) in enumerate(zip(CAPTIONS, REFERENCES, strict=True))
    ]
    others = [
        entry("7.png", "test", NO_CHANGE_SENTENCES[0], NO_CHANGE_SENTENCES[1], changeflag=0),
        entry("0_random_augment.png", "test", CAPTIONS[0], *REFERENCES[0]),
        entry("8.png", "train", "a house appears", "a villa appears"),
    ]
    return {"images": images + others}


def test_references_of_a_json_and_of_its_gzip_are_those_of_changed_pairs(tmp_path):
    plain, packed = tmp_path / "captions.json", tmp_path / "captions.json.gz"
    plain.write_text(json.dumps(annotations()))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    references, no_change = benchmark_metrics.read_references(plain, "test")
    assert references == [(pair.caption, *pair.references) for pair in PAIRS]
    assert benchmark_metrics.read_references(packed, "test") == (references, no_change)


@pytest.mark.slow
def test_the_command_reads_input_files_and_writes_what_it_prints(demo_input: Path, tmp_path, capsys):
    output = tmp_path / "new" / "metrics.json"
    benchmark_metrics.main([str(demo_input), "--split", "train", "--resamples", "5", "--output", str(output)])
    report, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert set(report["errors"]) == {*ERRORS, ALL_ERRORS}
    assert report["errors"]["wrong number"] == {"n": 0, "reason": "no caption has words for this error"}
    assert "wrong number: no caption has words for this error" in printed
    assert report["errors"]["direction reversed"]["auc"]["fact_f1"]["value"] > 0.9
    assert report["systems"][HUMAN]["scores"]["fact_f1"]["value"] == 100  # rendered from the truth
    assert f"{report['pairs']} changed pairs of input, train" in printed
    assert str(output) in printed
    assert report["captions_timed"] >= report["pairs"] * len(ERRORS)
    assert set(report["seconds"]) == {"meteor", "facts", "own_pair"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["captions.json", "--split", "val"], "2 changed pairs with two captions in val, got 0: choose"),
        (["captions.json", "--resamples", "0"], "--resamples must be 1 or more, got 0"),
        (["broken.gz"], "broken.gz is not a complete gzip file .* compress it again"),
        (["captions.json", "--words", "captions.json"], "captions.json must have the keys"),
    ],
)
def test_wrong_input_is_refused(tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    Path("captions.json").write_text(json.dumps(annotations()))
    Path("broken.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(UserError, match=message):
        benchmark_metrics.main(argv)


def test_absent_captions_are_named(tmp_path):
    for name in ("absent.json", "absent.json.gz"):
        with pytest.raises(FileNotFoundError, match=name):
            benchmark_metrics.main([str(tmp_path / name)])
