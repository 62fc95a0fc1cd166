import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor as PackagedMeteor
from pycocoevalcap.rouge.rouge import Rouge

from data.sources import NO_CHANGE_SENTENCES
from tools.meteor import Meteor, java_executable
from tools.metrics import AVERAGED, METRICS
from tools.scoring import PARTS, Record, ReleasedRecord, pair_scores, score
from tools.spice import Spice

SAME, NO_DIFFERENCE = "the scene is the same as before", "there is no difference"
NO_CHANGE = (SAME, NO_DIFFERENCE)
ROADS = ("a road is built in the desert", "a new road appears")
HOUSES = ("some houses are built near the road", "houses appear at the corner of the scene", "new houses")
COMMON = ("some houses are built near the road", "a road is built")

RECORDS = [
    Record("1.png", "a road is built", ROADS, True),
    Record("2.png", SAME, ROADS, True),
    Record("3.png", "some houses are built", HOUSES, True),
    Record("4.png", SAME, NO_CHANGE, False),
    Record("5.png", NO_DIFFERENCE, NO_CHANGE, False),
    Record("6.png", "", NO_CHANGE, False),
    Record("7.png", SAME, (SAME,), False),
]
OPTIONS = {"no_change": NO_CHANGE, "common_captions": COMMON, "resamples": 200}


@pytest.fixture(scope="module")
def result(meteor: Meteor) -> dict:
    return score(RECORDS, meteor, **OPTIONS, decisions={"map": [True, True, True, False, False, True, False]})


def values(scores: dict) -> dict[str, float | None]:
    """Metric -> value, without the bounds."""
    return {metric: scores[metric] and scores[metric]["value"] for metric in (*METRICS, "s_m")}


def test_parts_and_their_sizes(result):
    for column in ("ours", "floor", "margin"):
        assert [result[column][part]["pairs"] for part in PARTS] == [7, 3, 4]
    assert result["bootstrap"] == {"resamples": 200, "seed": 0, "percent": 95}
    json.dumps(result, allow_nan=False)


def test_a_part_is_scored_alone(result, meteor):
    changed = [record for record in RECORDS if record.changed]
    alone = score(changed, meteor, **OPTIONS)
    assert alone["ours"]["changed"] == alone["ours"]["all"] == result["ours"]["changed"]
    assert alone["ours"]["unchanged"] is alone["floor"]["unchanged"] is alone["margin"]["unchanged"] is None
    assert alone["decision"]["caption"]["unchanged"] is None


def test_unchanged_pairs_have_no_cider(result):
    unchanged = result["ours"]["unchanged"]
    assert unchanged["cider"] is None
    assert "left out" in unchanged["reasons"]["cider"]
    mean = np.mean([unchanged[metric]["value"] for metric in ("bleu_4", "meteor", "rouge_l")])
    assert unchanged["s_m"]["value"] == pytest.approx(mean)


def test_intervals_hold_their_values_and_hang_on_the_seed(result, meteor):
    for metric in (*METRICS, "s_m"):
        found = result["ours"]["all"][metric]
        assert found["low"] <= found["value"] <= found["high"]
        assert found["low"] < found["high"]
    assert score(RECORDS, meteor, **OPTIONS)["ours"] == result["ours"]
    other = score(RECORDS, meteor, **OPTIONS, seed=1)["ours"]["all"]
    assert values(other) == values(result["ours"]["all"])
    assert other["s_m"] != result["ours"]["all"]["s_m"]


def test_decision_by_hand(result):
    """Two of three changed pairs and three of four unchanged: an empty caption does not say "no change"."""
    accuracy = result["decision"]
    assert accuracy["caption"]["changed"]["value"] == pytest.approx(100 * 2 / 3)
    assert accuracy["caption"]["unchanged"]["value"] == pytest.approx(100 * 3 / 4)
    assert accuracy["caption"]["all"]["value"] == pytest.approx(100 * 5 / 7)
    assert accuracy["map"]["all"]["value"] == pytest.approx(100 * 6 / 7)
    assert accuracy["map"]["changed"] == {"value": 100, "low": 100, "high": 100}
    assert accuracy["caption"]["all"]["low"] < 100 * 5 / 7 < accuracy["caption"]["all"]["high"]


@pytest.mark.parametrize(
    ("part", "caption"),
    [("all", SAME), ("unchanged", SAME), ("changed", "a road is built")],
)
def test_floor_is_the_best_constant_caption(result, meteor, part, caption):
    """Each candidate, scored as if it were our caption of every pair."""
    records = [record for record in RECORDS if part == "all" or record.changed == (part == "changed")]
    candidates = COMMON if part == "changed" else NO_CHANGE
    s_m = {}
    for candidate in candidates:
        constant = [Record(r.filename, candidate, r.references, r.changed) for r in records]
        scores = score(constant, meteor, no_change=NO_CHANGE, resamples=2)["ours"][part]
        s_m[candidate] = scores["s_m"]["value"]
    assert result["floor"][part]["caption"] == max(s_m, key=s_m.get) == caption
    assert result["floor"][part]["s_m"]["value"] == max(s_m.values())


def test_floor_of_the_changed_part_without_training_captions(meteor):
    found = score(RECORDS, meteor, no_change=NO_CHANGE, resamples=2)
    assert found["floor"]["changed"]["caption"] in NO_CHANGE


def test_margin_is_the_difference_and_its_interval_is_paired(result, meteor):
    ours, floor, margin = (values(result[column]["all"]) for column in ("ours", "floor", "margin"))
    assert margin == pytest.approx({metric: ours[metric] - floor[metric] for metric in ours})
    constant = [Record(r.filename, SAME, r.references, r.changed) for r in RECORDS]
    nothing = score(constant, meteor, no_change=NO_CHANGE, resamples=50)["margin"]["all"]
    assert nothing["s_m"] == {"value": 0, "low": 0, "high": 0}


def test_without_java_the_rest_is_there(result, tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        found = score(RECORDS, broken, **OPTIONS)
        own = pair_scores(RECORDS, broken)
    for column in ("ours", "floor", "margin"):
        scores = found[column]["all"]
        assert scores["meteor"] is scores["s_m"] is None
        assert "could not be started" in scores["reasons"]["meteor"]
    rest = {metric: found["ours"]["all"][metric] for metric in METRICS if metric != "meteor"}
    assert rest == {metric: result["ours"]["all"][metric] for metric in rest}
    assert found["floor"]["all"]["caption"] == SAME
    assert own[0]["meteor"] is None
    assert own[0]["bleu_4"] is not None


def test_a_single_pair(meteor):
    found = score(RECORDS[:1], meteor, no_change=NO_CHANGE)["ours"]["all"]
    assert found["cider"] is None
    assert found["bleu_1"] == dict.fromkeys(("value", "low", "high"), found["bleu_1"]["value"])


def test_released_column(meteor):
    """Split by the second stored caption, `<unk>` matches `<unk>`, METEOR sees nothing but ids."""
    unknown = "a <unk> is built"
    records = [
        ReleasedRecord(unknown, (unknown, "a <unk>"), "1 9 2 3", ("1 9 2 3", "1 9")),
        ReleasedRecord(SAME, (SAME, "a <unk>"), "4 5", ("6 7", "8")),
        ReleasedRecord(SAME, ("a road", SAME), "4 5", ("4 5", "4 5")),
    ]
    found = score(RECORDS, meteor, no_change=NO_CHANGE, released=records, resamples=20)["released"]
    assert [found[part]["pairs"] for part in PARTS] == [3, 2, 1]
    assert found["changed"]["bleu_4"]["value"] == pytest.approx(100)
    assert found["changed"]["meteor"]["value"] < 100
    assert found["unchanged"]["meteor"]["value"] == 100
    assert found["unchanged"]["cider"] is None


WORDS = "a the road house tree is built near river some appears <unk>".split()  # noqa: SIM905
FIVE = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
    "no change is occurred",
    "almost nothing is changed",
)


def as_ids(sentence: str) -> str:
    """Each word's number."""
    known = dict.fromkeys(" ".join([*WORDS, *FIVE, "no change has occurred"]).split())
    return " ".join(str(list(known).index(word) + 1) for word in sentence.split())


def stored_pair(number: int) -> ReleasedRecord:
    """A caption and five stored ones, with repeats; every third pair has not changed."""
    draw = random.Random(number)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(2, 9)))

    own = [sentence() for _ in range(draw.randint(1, 5))]
    if number % 3 == 0:
        own = ["no change has occurred"] if number % 2 else draw.sample(FIVE, 3)
    stored = [own[place % len(own)] for place in range(5)]
    caption = draw.choice([*stored, sentence(), sentence(), ""])
    return ReleasedRecord(caption, stored, as_ids(caption), [as_ids(text) for text in stored])


@pytest.fixture(scope="module")
def packaged_meteor():
    """pycocoevalcap's own METEOR, which has to find our Java on the PATH."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(java_executable().parent))
        oracle = PackagedMeteor()
    yield oracle
    for pipe in (oracle.meteor_p.stdout, oracle.meteor_p.stderr):
        pipe.close()


def packaged_scores(chosen: list[ReleasedRecord], oracle: PackagedMeteor) -> dict[str, float]:
    """The released scorer: pycocoevalcap's classes on words, METEOR on ids; x 100."""
    references = {place: list(record.references) for place, record in enumerate(chosen)}
    captions = {place: [record.caption] for place, record in enumerate(chosen)}
    ids = {place: list(record.references_ids) for place, record in enumerate(chosen)}
    caption_ids = {place: [record.caption_ids] for place, record in enumerate(chosen)}
    bleu, _ = Bleu(4).compute_score(references, captions, verbose=0)
    others = [
        oracle.compute_score(ids, caption_ids)[0],
        Rouge().compute_score(references, captions)[0],
        Cider().compute_score(references, captions)[0],
    ]
    return dict(zip(METRICS, 100 * np.array([*bleu, *others]), strict=True))


def test_released_column_equals_the_released_scorer(meteor, packaged_meteor):
    """Split by the second stored caption: one of five sentences, LEVIR-CC's spelling is none of them."""
    stored = [stored_pair(number) for number in range(60)]
    same = [record.references[1] in FIVE for record in stored]
    parts = {
        "all": stored,
        "changed": [record for record, flag in zip(stored, same, strict=True) if not flag],
        "unchanged": [record for record, flag in zip(stored, same, strict=True) if flag],
    }
    records = [Record("", record.caption, record.references, True) for record in stored]
    found = score(records, meteor, no_change=NO_CHANGE_SENTENCES, released=stored, resamples=2)["released"]
    for part, chosen in parts.items():
        assert found[part]["pairs"] == len(chosen) > 5
        expected = packaged_scores(chosen, packaged_meteor)
        given = {metric: found[part][metric]["value"] for metric in METRICS if found[part][metric]}
        assert set(METRICS) - set(given) == ({"cider"} if part == "unchanged" else set())
        assert given == pytest.approx({metric: expected[metric] for metric in given}, abs=1e-6)


def test_without_human_words_the_released_column_and_the_decision_stand(result, meteor):
    stored = [ReleasedRecord(r.caption, r.references, "1 2", ["1 2"]) for r in RECORDS]
    found = score(RECORDS, meteor, **OPTIONS, released=stored, human_words=False)
    assert found["ours"] is found["floor"] is found["margin"] is None
    assert set(found["reasons"]) == {"ours", "floor", "margin"}
    assert "--data.annotations" in found["reasons"]["ours"]
    assert found["released"]["all"]["bleu_1"] == result["ours"]["all"]["bleu_1"]
    assert found["decision"]["caption"] == result["decision"]["caption"]
    assert result["reasons"] == {}


def test_spice_has_a_reason_where_it_has_no_value(result, meteor, tmp_path):
    found = score(RECORDS, meteor, **OPTIONS, spice=Spice(tmp_path))
    for part in PARTS:
        assert found["ours"][part]["spice"] is None
        assert "models are not installed" in found["ours"][part]["reasons"]["spice"]
        assert "s_m_spice" not in found["ours"][part]
        assert found["ours"][part]["s_m"] == result["ours"][part]["s_m"]
        assert {"spice", "s_m_spice"}.isdisjoint(found["floor"][part] | found["margin"][part]["reasons"])


def test_no_released_column_unless_asked_for(result):
    assert result["released"] is None


def test_pair_scores(meteor):
    found = pair_scores(RECORDS, meteor)
    assert [set(own) for own in found] == [set(AVERAGED)] * 7
    assert [found[4][metric] for metric in ("bleu_4", "meteor", "rouge_l")] == pytest.approx([100] * 3)
    assert found[4]["cider"] > found[1]["cider"] > 0
    assert found[5] == pytest.approx(dict.fromkeys(AVERAGED, 0), abs=1e-6)


def test_what_cannot_be_scored_is_refused(meteor):
    with pytest.raises(ValueError, match=r"needs a human caption to be scored, 8\.png has none"):
        Record("8.png", "a road", (), True)


@pytest.mark.real
@pytest.mark.slow
def test_floor_of_the_levir_cc_test_split(meteor, real_data: Path):
    """On the 1,929 pairs, each with its own five sentences: the known figures, to 0.1."""
    with gzip.open(real_data / "levir_cc_captions.json.gz") as file:
        images = [image for image in json.load(file)["images"] if image["split"] == "test"]
    records = []
    for image in images:
        references = [" ".join(sentence["tokens"]) for sentence in image["sentences"]]
        records.append(Record(image["filename"], references[0], references, bool(image["changeflag"])))
    floor = score(records, meteor, no_change=NO_CHANGE_SENTENCES, resamples=100)["floor"]["all"]
    known = [64.6, 56.6, 53.2, 51.5, 27.8, 60.6, 101.9]
    assert floor["pairs"] == 1929
    assert floor["caption"] == "the scene is the same as before"
    assert [floor[metric]["value"] for metric in METRICS] == pytest.approx(known, abs=0.1)
