import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor as PackagedMeteor
from pycocoevalcap.rouge.rouge import Rouge

from data.sources import NO_CHANGE_SENTENCES
from tools.scoring import AuthorsRecord, Record, pair_scores, score
from tools.scoring.baselines import TrainingCaptions, training_captions
from tools.scoring.human import ONE_CAPTION
from tools.scoring.meteor import Meteor, java_executable
from tools.scoring.metrics import AVERAGED, FACT_TITLES, METRICS
from tools.scoring.results import PARTS
from tools.scoring.spice import Spice
from tools.scoring.table import format_table

SAME, NO_DIFFERENCE = "the scene is the same as before", "there is no difference"
NO_CHANGE = (SAME, NO_DIFFERENCE)
ROADS = ("a road is built in the desert", "a new road appears")
HOUSES = ("some houses are built near the road", "houses appear at the corner of the scene", "new houses")
CAPTIONS = ("some houses are built near the road", "a road is built", SAME, NO_DIFFERENCE)
TRAINING = TrainingCaptions(
    CAPTIONS, {"all": SAME, "changed": CAPTIONS[0], "unchanged": NO_DIFFERENCE}, "here"
)

RECORDS = [
    Record("1.png", "a road is built", ROADS, True),
    Record("2.png", SAME, ROADS, True),
    Record("3.png", "some houses are built", HOUSES, True),
    Record("4.png", SAME, NO_CHANGE, False),
    Record("5.png", NO_DIFFERENCE, NO_CHANGE, False),
    Record("6.png", "", NO_CHANGE, False),
    Record("7.png", SAME, (SAME,), False),
]
OPTIONS = {"no_change": NO_CHANGE, "training": TRAINING, "resamples": 200}


@pytest.fixture(scope="module")
def result(meteor: Meteor) -> dict:
    return score(RECORDS, meteor, **OPTIONS, decisions={"map": [True, True, True, False, False, True, False]})


def values(scores: dict) -> dict[str, float | None]:
    """Metric -> value, without the bounds."""
    return {metric: scores[metric] and scores[metric]["value"] for metric in (*METRICS, "s_m")}


def test_parts_and_their_sizes(result):
    for column in ("ours", "floor", "floor_oracle", "margin"):
        assert [result[column][part]["pairs"] for part in PARTS] == [7, 3, 4]
    assert result["bootstrap"] == {"resamples": 200, "seed": 0, "percent": 95, "sources": len(RECORDS)}
    json.dumps(result, allow_nan=False)


def test_parts_are_scored_independently(result, meteor):
    changed = [record for record in RECORDS if record.changed]
    alone = score(changed, meteor, **OPTIONS)
    assert alone["ours"]["changed"] == alone["ours"]["all"] == result["ours"]["changed"]
    assert alone["ours"]["unchanged"] is alone["floor"]["unchanged"] is alone["margin"]["unchanged"] is None
    assert alone["decision"]["caption"]["unchanged"] is None


@pytest.mark.parametrize("changed", [True, False])
def test_pairs_with_the_same_references_have_no_cider_in_any_column(meteor, changed):
    """Also in the part "all", where a perfect caption has S*m 100 too."""
    equal_pairs = [Record(f"{number}.png", SAME, NO_CHANGE, changed) for number in range(4)]
    scores = score(equal_pairs, meteor, **OPTIONS)
    for part in ("all", "changed" if changed else "unchanged"):
        for column in ("ours", "floor", "floor_oracle", "margin"):
            assert scores[column][part]["cider"] is None
            assert "left out" in scores[column][part]["reasons"]["cider"]
        assert scores["ours"][part]["s_m"]["value"] == pytest.approx(100)
        assert scores["floor_oracle"][part]["s_m"]["value"] == pytest.approx(100)


def test_unchanged_pairs_with_different_references_have_cider(result):
    for column in ("ours", "floor", "floor_oracle", "margin"):
        unchanged = result[column]["unchanged"]
        mean = np.mean([unchanged[metric]["value"] for metric in AVERAGED])
        assert unchanged["s_m"]["value"] == pytest.approx(mean)
    assert result["ours"]["unchanged"]["cider"]["value"] > 0


def test_intervals_contain_their_values_and_depend_on_the_seed(result, meteor):
    for metric in (*METRICS, "s_m"):
        scores = result["ours"]["all"][metric]
        assert scores["low"] <= scores["value"] <= scores["high"]
        assert scores["low"] < scores["high"]
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
    assert accuracy["map"]["changed"] == {
        "value": 100,
        "low": pytest.approx(29.24, abs=0.01),
        "high": 100,
        "n": 3,
    }
    assert accuracy["caption"]["all"]["low"] < 100 * 5 / 7 < accuracy["caption"]["all"]["high"]


def scores_of_constant(caption: str, part: str, meteor: Meteor) -> dict:
    """The scores of a part for a model that gives every pair the same caption."""
    constant = [Record(r.filename, caption, r.references, r.changed) for r in RECORDS]
    return score(constant, meteor, **{**OPTIONS, "resamples": 2})["ours"][part]


@pytest.mark.parametrize("part", PARTS)
def test_floors_are_scores_of_training_captions(result, meteor, part):
    """The floor is the best caption in training, the oracle the best on these pairs."""
    floor, oracle = result["floor"][part], result["floor_oracle"][part]
    s_m = {caption: scores_of_constant(caption, part, meteor)["s_m"]["value"] for caption in CAPTIONS}
    assert floor["caption"] == TRAINING.best[part]
    assert floor["s_m"]["value"] == pytest.approx(s_m[floor["caption"]])
    assert oracle["s_m"]["value"] == pytest.approx(max(s_m.values()))
    assert s_m[oracle["caption"]] == pytest.approx(max(s_m.values()))
    above = result["ours"][part]["s_m"]["value"] - oracle["s_m"]["value"]
    assert oracle["ours_above"]["value"] == pytest.approx(above)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_constant_training_caption_is_never_above_the_oracle(meteor, caption):
    constant = [Record(r.filename, caption, r.references, r.changed) for r in RECORDS]
    oracles = score(constant, meteor, **OPTIONS)["floor_oracle"]
    assert all(oracles[part]["ours_above"]["value"] <= 1e-9 for part in PARTS)


def test_the_floor_of_a_part_without_training_pairs_is_that_of_all(meteor):
    training = TrainingCaptions(CAPTIONS, {"all": CAPTIONS[1]}, "here")
    scores = score(RECORDS, meteor, **{**OPTIONS, "training": training, "resamples": 2})
    assert [scores["floor"][part]["caption"] for part in PARTS] == [CAPTIONS[1]] * 3


def test_without_training_captions_there_are_no_floors_and_the_reason_is_given(result, meteor):
    options = {**OPTIONS, "training": None, "no_training": "no train.hdf5"}
    scores = score(RECORDS, meteor, **options)
    assert scores["floor"] is scores["floor_oracle"] is scores["margin"] is scores["garbled"] is None
    assert scores["reasons"] == dict.fromkeys(("floor", "floor_oracle", "margin"), "no train.hdf5")
    assert scores["ours"] == result["ours"]


def test_without_no_change_sentences_every_caption_means_change(meteor):
    """A data set of changed pairs: every caption describes a change."""
    scores = score(RECORDS[:3], meteor, **{**OPTIONS, "no_change": (), "resamples": 2})
    assert scores["decision"]["caption"]["all"]["value"] == 100
    assert scores["no_change"] == []


@pytest.mark.parametrize(
    ("caption", "garbled"),
    [
        ("a road is built", False),
        ("a road is built near the road", False),  # new, of known pairs of words
        ("some houses", False),
        ("", True),
        ("road road road", True),
        ("<unk> <unk>", True),
        ("the a is near", True),
        (SAME, False),
    ],
)
def test_garbled_captions(meteor, caption, garbled):
    record = Record("1.png", caption, ROADS, True)
    assert score([record], meteor, **OPTIONS)["garbled"]["all"]["value"] == 100 * garbled


def test_a_no_change_sentence_is_never_garbled(meteor):
    record = Record("1.png", "rien n'a changé", ROADS, False)
    for sentences, garbled in ((["rien n'a changé"], 0), ([], 100)):
        scores = score([record], meteor, **{**OPTIONS, "no_change": sentences})
        assert scores["garbled"]["all"]["value"] == garbled


def test_garbled_captions_are_counted_in_each_part(result):
    assert result["garbled"]["all"]["value"] == pytest.approx(100 / 7)  # the empty one
    assert result["garbled"]["changed"]["value"] == 0
    assert result["garbled"]["unchanged"]["value"] == pytest.approx(100 / 4)


def test_margin_is_the_difference_and_its_interval_is_paired(result, meteor):
    ours, floor, margin = (values(result[column]["all"]) for column in ("ours", "floor", "margin"))
    assert margin == pytest.approx({metric: ours[metric] - floor[metric] for metric in ours})
    constant = [Record(r.filename, SAME, r.references, r.changed) for r in RECORDS]
    nothing = score(constant, meteor, **{**OPTIONS, "resamples": 50})["margin"]["all"]
    assert nothing["s_m"] == {"value": 0, "low": 0, "high": 0}


def test_other_scores_without_java(result, tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        actual = score(RECORDS, broken, **OPTIONS)
        pair_results = pair_scores(RECORDS, broken)
    for column in ("ours", "floor", "floor_oracle", "margin"):
        scores = actual[column]["all"]
        assert scores["meteor"] is scores["s_m"] is None
        assert "could not be started" in scores["reasons"]["meteor"]
    rest = {metric: actual["ours"]["all"][metric] for metric in METRICS if metric != "meteor"}
    assert rest == {metric: result["ours"]["all"][metric] for metric in rest}
    assert actual["floor"]["all"]["caption"] == SAME
    assert pair_results[0]["meteor"] is None
    assert pair_results[0]["bleu_4"] is not None


def test_a_single_pair(meteor):
    scores = score(RECORDS[:1], meteor, **OPTIONS)["ours"]["all"]
    assert scores["cider"] is None
    assert scores["bleu_1"] == dict.fromkeys(("value", "low", "high"), scores["bleu_1"]["value"])


def test_released_column(meteor):
    """The second stored caption decides the part, `<unk>` matches `<unk>`, and METEOR is computed on ids."""
    unknown = "a <unk> is built"
    records = [
        AuthorsRecord(unknown, (unknown, "a <unk>"), "1 9 2 3", ("1 9 2 3", "1 9")),
        AuthorsRecord(SAME, (SAME, "a <unk>"), "4 5", ("6 7", "8")),
        AuthorsRecord(SAME, ("a road", SAME), "4 5", ("4 5", "4 5")),
    ]
    scores = score(RECORDS, meteor, no_change=NO_CHANGE, training=None, authors=records, resamples=20)[
        "released"
    ]
    assert [scores[part]["pairs"] for part in PARTS] == [3, 2, 1]
    assert scores["changed"]["bleu_4"]["value"] == pytest.approx(100)
    assert scores["changed"]["meteor"]["value"] < 100
    assert scores["unchanged"]["meteor"]["value"] == 100
    assert scores["unchanged"]["cider"] is None


def test_unchanged_pairs_that_the_authors_procedure_counts_as_changed_are_noted(meteor):
    other = [AuthorsRecord("a", ("nothing new", "nothing new"), "1", ("1", "1")) for _ in RECORDS]
    options = {"no_change": NO_CHANGE, "training": None, "resamples": 2}
    result = score(RECORDS, meteor, authors=other, **options)
    unchanged = sum(not record.changed for record in RECORDS)
    note = (
        f"the authors' procedure counts {unchanged} of {unchanged} unchanged pairs as changed, because it "
        "looks for SECOND-CC's no-change sentences alone, in the second caption of a pair"
    )
    assert result["reasons"]["released"] == note
    assert f"{note} (released)" in format_table(result).splitlines()
    known = [AuthorsRecord("a", (SAME, SAME), "1", ("1", "1")) for _ in RECORDS]
    assert "released" not in score(RECORDS, meteor, authors=known, **options)["reasons"]


def test_a_released_s_m_averages_the_same_metrics_as_ours(meteor):
    """It has no value if one of them has none: here the stored captions of the only pair have no CIDEr."""
    stored = [AuthorsRecord(r.caption, r.references, "1 2", ["1 2"]) for r in RECORDS[3:4]]
    options = {**OPTIONS, "resamples": 2, "authors": stored}
    released = score(RECORDS, meteor, **options)["released"]["all"]
    assert released["s_m"] is released["cider"] is None
    assert released["reasons"]["s_m"] == "not without cider"
    both = score(RECORDS[3:4], meteor, **options)
    assert both["released"]["all"]["s_m"]["value"] > 0
    assert both["ours"]["all"]["cider"] is both["released"]["all"]["cider"] is None


WORDS = "a the road house tree is built near river some appears <unk>".split()  # noqa: SIM905
FIVE = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
    "no change is occurred",
    "almost nothing is changed",
)


def as_ids(sentence: str) -> str:
    """The words of a sentence as numbers."""
    known = dict.fromkeys(" ".join([*WORDS, *FIVE, "no change has occurred"]).split())
    return " ".join(str(list(known).index(word) + 1) for word in sentence.split())


def stored_pair(number: int) -> AuthorsRecord:
    """A caption and five stored captions with repeats; every third pair is unchanged."""
    draw = random.Random(number)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(2, 9)))

    pair_results = [sentence() for _ in range(draw.randint(1, 5))]
    if number % 3 == 0:
        pair_results = ["no change has occurred"] if number % 2 else draw.sample(FIVE, 3)
    stored = [pair_results[index % len(pair_results)] for index in range(5)]
    caption = draw.choice([*stored, sentence(), sentence(), ""])
    return AuthorsRecord(caption, stored, as_ids(caption), [as_ids(text) for text in stored])


@pytest.fixture(scope="module")
def packaged_meteor():
    """The METEOR of pycocoevalcap, with our Java on the PATH."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(java_executable().parent))
        oracle = PackagedMeteor()
    yield oracle
    for pipe in (oracle.meteor_p.stdout, oracle.meteor_p.stderr):
        pipe.close()


def packaged_scores(chosen: list[AuthorsRecord], oracle: PackagedMeteor) -> dict[str, float]:
    """The authors' scorer: the classes of pycocoevalcap on words, METEOR on ids; times 100."""
    references = {index: list(record.references) for index, record in enumerate(chosen)}
    captions = {index: [record.caption] for index, record in enumerate(chosen)}
    ids = {index: list(record.references_ids) for index, record in enumerate(chosen)}
    caption_ids = {index: [record.caption_ids] for index, record in enumerate(chosen)}
    bleu, _ = Bleu(4).compute_score(references, captions, verbose=0)
    others = [
        oracle.compute_score(ids, caption_ids)[0],
        Rouge().compute_score(references, captions)[0],
        Cider().compute_score(references, captions)[0],
    ]
    return dict(zip(METRICS, 100 * np.array([*bleu, *others]), strict=True))


def test_released_column_equals_the_authors_scorer(meteor, packaged_meteor):
    """The second stored caption decides the part; only five sentences mean no change."""
    stored = [stored_pair(number) for number in range(60)]
    same = [record.references[1] in FIVE for record in stored]
    parts = {
        "all": stored,
        "changed": [record for record, flag in zip(stored, same, strict=True) if not flag],
        "unchanged": [record for record, flag in zip(stored, same, strict=True) if flag],
    }
    records = [Record("", record.caption, record.references, True) for record in stored]
    scores = score(
        records, meteor, no_change=NO_CHANGE_SENTENCES, training=None, authors=stored, resamples=2
    )["released"]
    for part, chosen in parts.items():
        assert scores[part]["pairs"] == len(chosen) > 5
        expected = packaged_scores(chosen, packaged_meteor)
        given = {metric: scores[part][metric]["value"] for metric in METRICS if scores[part][metric]}
        assert set(given) == set(METRICS)
        assert given == pytest.approx({metric: expected[metric] for metric in given}, abs=1e-6)


def test_without_human_words_only_the_released_column_and_the_decision_remain(result, meteor):
    stored = [AuthorsRecord(r.caption, r.references, "1 2", ["1 2"]) for r in RECORDS]
    scores = score(RECORDS, meteor, **OPTIONS, authors=stored, human_words=False)
    assert scores["ours"] is scores["floor"] is scores["floor_oracle"] is scores["margin"] is None
    assert scores["human"] is None
    assert set(scores["reasons"]) == {"ours", "floor", "floor_oracle", "margin", "facts", "human"}
    assert "--data.annotations" in scores["reasons"]["ours"]
    assert scores["released"]["all"]["bleu_1"] == result["ours"]["all"]["bleu_1"]
    assert scores["decision"]["caption"] == result["decision"]["caption"]
    assert result["reasons"] == {}


def test_spice_has_a_reason_where_it_has_no_value(result, meteor, tmp_path):
    scores = score(RECORDS, meteor, **OPTIONS, optional=[Spice(tmp_path)])
    for part in PARTS:
        assert scores["ours"][part]["spice"] is None
        assert "models are not installed" in scores["ours"][part]["reasons"]["spice"]
        assert "s_m_spice" not in scores["ours"][part]
        assert scores["ours"][part]["s_m"] == result["ours"][part]["s_m"]
        assert {"spice", "s_m_spice"}.isdisjoint(scores["floor"][part] | scores["margin"][part]["reasons"])


def test_released_column_is_optional(result):
    assert result["released"] is None


def test_fact_scores_beside_the_floors(result):
    for column in ("ours", "floor", "floor_oracle", "margin"):
        for part in ("all", "changed"):
            assert set(FACT_TITLES) <= set(result[column][part])
        assert not set(FACT_TITLES) & set(result[column]["unchanged"])
    ours, floor = result["ours"]["changed"], result["floor"]["changed"]
    assert ours["fact_precision"]["value"] == 100  # "a road is built" and "some houses are built"
    assert ours["fact_none"]["value"] == pytest.approx(100 / 3)
    assert floor["fact_precision"]["value"] == pytest.approx(
        100 / 3
    )  # houses are built in one of three pairs
    assert floor["own_pair"]["value"] == 50  # of a constant
    margin = result["margin"]["changed"]["fact_f1"]
    assert margin["value"] == pytest.approx(ours["fact_f1"]["value"] - floor["fact_f1"]["value"])


def test_own_pair_of_changed_pairs_ranks_changed_pairs_only(meteor, result):
    changed = [record for record in RECORDS if record.changed]
    alone = score(changed, meteor, **OPTIONS)["ours"]["all"]["own_pair"]["value"]
    assert result["ours"]["changed"]["own_pair"]["value"] == pytest.approx(alone)
    assert result["ours"]["all"]["own_pair"]["value"] != pytest.approx(alone)


def test_persons_model_and_floor_are_scored_against_the_same_references(result):
    for part, pairs in (("all", 6), ("changed", 3), ("unchanged", 3)):
        compared = result["human"][part]
        assert (compared["pairs"], compared["left_out"]) == (pairs, 1 if part != "changed" else 0)
        assert list(compared["columns"]) == ["human", "ours", "floor"]
    changed = result["human"]["changed"]["columns"]
    assert changed["human"]["fact_contradiction"]["value"] == 0
    assert changed["ours"]["bleu_4"]["value"] < result["ours"]["changed"]["bleu_4"]["value"]


def test_persons_are_left_out_where_pairs_have_one_caption(meteor):
    single = [replace(record, references=record.references[:1]) for record in RECORDS]
    scores = score(single, meteor, **OPTIONS)
    assert scores["human"] is None
    assert scores["reasons"] == {"human": ONE_CAPTION}
    assert f"{ONE_CAPTION} (human)" in format_table(scores)


@pytest.mark.parametrize("setting", ["none", "english"])
def test_fact_scores_are_left_out_where_no_words_fit(meteor, setting):
    texts = ("yolun yanina evler yapildi", "yeni evler") if setting == "english" else ROADS
    records = [Record(f"{i}.png", texts[0], (*texts, str(i)), True) for i in range(3)]
    scores = score(records, meteor, **OPTIONS, facts=setting)
    assert "data.facts" in scores["reasons"]["facts"]
    assert setting in scores["reasons"]["facts"]
    assert "fact_f1" not in scores["ours"]["all"]
    assert scores["ours"]["all"]["own_pair"]["value"] == 50  # needs no word lists
    assert scores["reasons"]["facts"] in format_table(scores)


def test_pair_scores(meteor):
    scores = pair_scores(RECORDS, meteor)
    assert [set(pair_results) for pair_results in scores] == [set(AVERAGED)] * 7
    assert [scores[4][metric] for metric in ("bleu_4", "meteor", "rouge_l")] == pytest.approx([100] * 3)
    assert scores[4]["cider"] > scores[1]["cider"] > 0
    assert scores[5] == pytest.approx(dict.fromkeys(AVERAGED, 0), abs=1e-6)


def test_pair_without_references_is_refused(meteor):
    with pytest.raises(ValueError, match=r"needs a human caption to be scored, 8\.png has none"):
        Record("8.png", "a road", (), True)


@pytest.mark.real
@pytest.mark.slow
def test_floors_of_the_levir_cc_test_split(meteor, real_data: Path):
    """The known scores on the 1,929 pairs with five sentences each, to 0.1."""
    with gzip.open(real_data / "levir_cc_captions.json.gz") as file:
        images = json.load(file)["images"]
    records = {"train": [], "test": []}
    for image in images:
        references = [" ".join(sentence["tokens"]) for sentence in image["sentences"]]
        record = Record(image["filename"], references[0], references, bool(image["changeflag"]))
        records.setdefault(image["split"], []).append(record)
    reader = SimpleNamespace(
        references=[record.references for record in records["train"]],
        changed=np.array([record.changed for record in records["train"]]),
        path="LEVIR-CC",
    )
    training = training_captions(reader, range(len(records["train"])), meteor)
    assert len(training.captions) == 13_314
    scores = score(records["test"], meteor, no_change=NO_CHANGE_SENTENCES, training=training, resamples=100)
    known = [64.6, 56.6, 53.2, 51.5, 27.8, 60.6, 101.9]
    for floor in (scores["floor"]["all"], scores["floor_oracle"]["all"]):
        assert floor["pairs"] == 1929
        assert floor["caption"] == "the scene is the same as before"
        assert [floor[metric]["value"] for metric in METRICS] == pytest.approx(known, abs=0.1)
    changed = [scores[column]["changed"]["caption"] for column in ("floor", "floor_oracle")]
    assert changed == ["houses are built along the road on the bareland"] * 2


def test_pairs_of_one_source_widen_the_intervals(meteor):
    """Every pair four times, as four tiles of one image: the pairs alone would halve the intervals."""
    tiles = [replace(record, source=f"{index}") for index, record in enumerate(RECORDS) for _ in range(4)]
    independent = [replace(record, source=None) for record in tiles]
    clustered, pairs = (score(records, meteor, **OPTIONS) for records in (tiles, independent))
    assert clustered["bootstrap"]["sources"] == len(RECORDS)
    widths = [
        scores["ours"]["all"]["bleu_1"]["high"] - scores["ours"]["all"]["bleu_1"]["low"]
        for scores in (clustered, pairs)
    ]
    assert widths[0] > 1.5 * widths[1]
    assert "come from 7 source images" in format_table(clustered)
    assert "source image" not in format_table(pairs)
