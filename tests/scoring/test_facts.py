"""Captions are read as the facts that a person reads in them, and scored by hand-computed values."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.errors import UserError
from data.sources import NO_CHANGE_SENTENCES
from tools.scoring.fact_reader import Fact, FactReader
from tools.scoring.fact_words import ENGLISH, read_fact_words
from tools.scoring.facts import Facts

NOTES = Path(__file__).with_name("facts_by_hand.json")  # captions of LEVIR-CC, read by a person
SIGNS = {"appears": "+", "disappears": "-"}


@pytest.fixture(scope="module")
def reader() -> FactReader:
    return FactReader()


def read(reader: FactReader, caption: str) -> set[str]:
    """The facts of a caption as "+building -tree"."""
    return {SIGNS[fact.change] + fact.label for fact in reader.facts(caption)}


def facts(text: str) -> set[str]:
    return {part.replace("_", " ") for part in text.split()}


CAPTIONS = {
    # one verb, active and passive
    "a lake appears": "+water",
    "the old houses disappeared": "-building",
    "two villas have been newly built": "+building",
    "the trees were cut down": "-tree",
    "There are no more trees, they have been removed .": "",
    # lists, and what comes with something
    "a road and some houses and a parking lot are constructed": "+road +building +parking_lot",
    "a road with villas built along appears": "+road +building",
    # nouns after prepositions state nothing
    "many houses are built on both sides of the road": "+building",
    "a house appears between the lake and the woods": "+building",
    "some plants at the edge of the woods are removed": "-vegetation",
    # except new things, and surfaces that are built on
    "a house is built beside the new road": "+building +road",
    "a road is built on the meadow": "+road -grass",
    "a playground appears where the trees were": "+playground -tree",
    "a house stands at the edge of the field": "+building",
    # replacing, both ways round
    "houses replace the trees": "+building -tree",
    "the trees are replaced by houses": "+building -tree",
    "the trees in the corner have been replaced with a road and houses": "+building +road -tree",
    "some villas are built to replace the forest": "+building -tree",
    "bare land takes the place of the houses": "+bareland -building",
    "houses are built in place of the lake": "+building -water",
    "the bareland is covered with grass": "-bareland +grass",
    "the trees have disappeared, replaced by a playground": "-tree +playground",
    "a playground is built where there used to be trees": "+playground -tree",
    # becoming
    "the parking lot is now a building": "-parking_lot +building",
    "the wasteland is developed into a residential area": "+building -bareland",
    "the woods turn into bareland": "+bareland -tree",
    "the road is rebuilt into a road with houses": "+road +building",
    "the trees become lusher and a path appears": "+tree +road",
    "the trees become more": "+tree",
    "the grass becomes sparse": "-grass",
    "the grass becomes more sparse": "-grass",
    "trees are cut to form a square": "-tree +square",
    # participles: as adjectives, and in place of a verb
    "the houses built by the road are removed": "-building",
    "a building with a lot for parked cars is built": "+building",
    "houses are built with some trees removed": "+building -tree",
    "trees are removed and some houses scattered beside the road": "-tree +building",
    # several clauses
    "trees are removed and a road and houses are built": "-tree +road +building",
    "some houses are removed and some others are built": "-building +building",
    "trees are cut down and replaced by a lake": "-tree +water",
    "many trees are replaced by houses and a road and a pond appears": "-tree +building +road +water",
    # no verb
    "a road with houses on both sides": "+road +building",
    "houses built along the road": "+building",
    # words of several meanings
    "a square house is built": "+building",
    "low vegetation is removed": "-grass",
    "the green space becomes a car park": "-grass +parking_lot",
    "the image was taken in summer": "",
    "": "",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_facts_of_a_caption(reader, caption):
    assert read(reader, caption) == facts(CAPTIONS[caption])


def test_details_of_facts(reader):
    (house,) = reader.facts("two houses are built in the top-left corner of the scene")
    assert house == Fact("building", "appears", number=2, place="top left")
    villa, grass = reader.facts("a villa is built on the grass in the middle")
    assert villa == Fact("building", "appears", number=1, place="middle", replaces=("grass",))
    assert grass == Fact("grass", "disappears", place="middle")
    (row,) = reader.facts("two rows of houses are built on the left side of the road")
    assert (row.number, row.place) == (
        None,
        None,
    )  # two rows; the road's left side is not the image's
    (many,) = reader.facts("many houses appear on the right")
    assert (many.number, many.place) == (None, "right")
    (digits,) = reader.facts("12 houses appear")
    assert digits.number == 12
    road, *_ = reader.facts("a road and a house replace trees and grass")
    assert road.replaces == ("tree", "grass")


@pytest.mark.parametrize("sentence", [*NO_CHANGE_SENTENCES, "the road and the houses are the same as before"])
def test_sentences_that_say_no_change(reader, sentence):
    assert reader.says_unchanged(sentence)
    assert not reader.facts(sentence)


def test_no_change_is_not_said_by_silence_or_with_a_fact(reader):
    assert not reader.says_unchanged("a picture of a town")
    assert not reader.says_unchanged("the road is the same and a house is built")


REFERENCES = (
    "two houses are built on the left",
    "some houses and a road appear",
    "trees are removed and a house is built",
)  # needed: +building (three references); also stated: +road, -tree


@pytest.mark.parametrize(
    ("caption", "row"),
    [
        # stated, right, needed, found, contradicts, no fact, wrong number, wrong place
        ("two houses appear on the left", [1, 1, 1, 1, 0, 0, 0, 0]),
        ("houses and a road are built and a lake appears", [3, 2, 1, 1, 0, 0, 0, 0]),
        ("houses are removed", [1, 0, 1, 0, 1, 0, 0, 0]),
        ("a lake appears", [1, 0, 1, 0, 0, 0, 0, 0]),
        ("plants are removed", [1, 1, 1, 0, 0, 0, 0, 0]),  # vegetation includes trees
        ("plants appear", [1, 0, 1, 0, 1, 0, 0, 0]),
        ("five houses appear", [1, 0, 1, 0, 0, 0, 1, 0]),
        ("one house appears at the top right", [1, 0, 1, 0, 0, 0, 0, 1]),
        ("nothing has changed", [0, 0, 1, 0, 1, 1, 0, 0]),
        ("a picture of a town", [0, 0, 1, 0, 0, 1, 0, 0]),
    ],
)
def test_row_of_a_caption(caption, row):
    assert Facts().rows([(caption, REFERENCES)]).tolist() == [row]


def test_the_opposite_is_no_contradiction_where_a_reference_states_the_fact():
    references = ("a house is removed", "a house is built", "a road is built")
    assert Facts().rows([("houses are built", references)])[0, 4] == 0


def test_a_change_told_of_an_unchanged_pair_contradicts():
    unchanged = ("nothing has changed", "there is no difference")
    rows = Facts().rows([("a house appears", unchanged), ("no change has occurred", unchanged)])
    assert rows[:, 4].tolist() == [1, 0]
    assert Facts.scores(rows, 1)["fact_f1"].tolist() == [0, 1]


def test_scores_of_a_corpus():
    captions = (
        "two houses appear on the left",
        "houses and a road are built and a lake appears",
        "no change",
    )
    rows = Facts().rows([(caption, REFERENCES) for caption in captions])
    scores = Facts.scores(rows.sum(0), 3)
    assert scores["fact_precision"] == pytest.approx(3 / 4)
    assert scores["fact_recall"] == pytest.approx(2 / 3)
    assert scores["fact_f1"] == pytest.approx(12 / 17)
    assert scores["fact_f05"] == pytest.approx(1.25 / (1 / (3 / 4) + 0.25 / (2 / 3)))
    assert scores["fact_contradiction"] == pytest.approx(1 / 3)
    assert scores["fact_none"] == pytest.approx(1 / 3)


def test_where_no_two_references_agree_all_their_facts_are_needed():
    rows = Facts().rows([("a road is built", ("a road is built", "a lake appears"))])
    assert rows[0, :4].tolist() == [1, 1, 2, 1]


def write(tmp_path: Path, **changes: object) -> Path:
    content = yaml.safe_load(ENGLISH.read_text(encoding="utf-8"))
    path = tmp_path / "words.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}), encoding="utf-8")
    return path


def test_a_data_set_has_its_own_words(tmp_path):
    classes = {"windmill": {"words": ["wind turbine"]}}
    reader = FactReader(read_fact_words(write(tmp_path, classes=classes)))
    assert read(reader, "three wind-turbines are built beside a house") == {"+windmill"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": []}, "must have the keys .* unknown: extra"),
        ({"classes": {"a": {"word": ["x"]}}}, "wrong form"),
        ({"classes": {"a": {"words": ["x"], "map_classes": ["sky"]}}}, "must be among .* got sky"),
        ({"classes": {"a": {"words": ["x"], "includes": ["b"]}}}, "includes b, which must be a class"),
        ({"verbs": {"appears": {"active": []}}}, "wrong form"),
        ({"classes": {"a": {"words": "house"}}}, "'house' must be a list of texts"),
        ({"where": [True]}, "must be a list of texts, put those in quotes"),
    ],
)
def test_a_wrong_file_of_words_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        read_fact_words(write(tmp_path, **changes))
    assert "words.yaml" in str(error.value)


def test_a_file_of_words_that_is_not_yaml_is_refused(tmp_path):
    (tmp_path / "words.yaml").write_text("classes: [")
    with pytest.raises(UserError, match="is not YAML .*: give a file of the form"):
        read_fact_words(tmp_path / "words.yaml")


@pytest.fixture(scope="module")
def levir_captions(real_data: Path) -> dict[str, list[str]]:
    """File name -> captions, of the changed pairs of LEVIR-CC."""
    with gzip.open(real_data / "levir_cc_captions.json.gz", "rt") as file:
        images = json.load(file)["images"]
    return {
        image["filename"]: [" ".join(sentence["tokens"]) for sentence in image["sentences"]]
        for image in images
        if image["changeflag"]
    }


@pytest.mark.real
@pytest.mark.parametrize("part", ["rules", "held_out"])
def test_the_reader_agrees_with_a_person(reader, levir_captions, part):
    notes = json.loads(NOTES.read_text())[part]
    counts = np.zeros(3)  # read and noted, read, noted
    for note in notes:
        found = read(reader, levir_captions[note["filename"]][note["caption"]])
        noted = set(note["facts"])
        counts += [len(found & noted), len(found), len(noted)]
    assert 2 * counts[0] / (counts[1] + counts[2]) >= 0.95


@pytest.mark.real
def test_nearly_all_captions_of_changed_pairs_give_a_fact(reader, levir_captions):
    captions = [caption for captions in levir_captions.values() for caption in captions]
    assert np.mean([bool(reader.facts(caption)) for caption in captions]) >= 0.99
