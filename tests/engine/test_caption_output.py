"""The table of captions: columns of CSV and JSON."""

import csv
import io
import json

from data.pair_files import PairFiles
from tools.engine.caption_output import Row, ScoredCaption, Table

PAIR = PairFiles(
    {"img_A": "a", "img_B": "b"}, extra={"id": 7, "error": "x", "given_error": None, "tags": ["y"]}
)
CAPTIONS = (ScoredCaption("a house", -1.0), ScoredCaption("a barn", -2.0))


def written(as_json: bool, *rows: Row, answers: int = 1, extra: tuple[str, ...] = tuple(PAIR.extra)) -> str:
    file = io.StringIO()
    table = Table(file, as_json, answers, extra)
    for row in rows:
        table.write(row)
    table.close()
    return file.getvalue()


def test_other_columns_follow_and_never_replace_ours(capsys):
    text = written(False, Row(PAIR, CAPTIONS[:1], changed=True))
    assert text.splitlines()[0] == (
        "img_A,img_B,seg_A,seg_B,changed,change_probability,caption,log_prob,error,id,given_error,"
        "given_given_error,tags"
    )
    (row,) = csv.DictReader(text.splitlines())
    assert row["changed"] == "yes"
    assert (row["error"], row["given_error"], row["given_given_error"]) == ("", "x", "")
    assert (row["id"], row["tags"]) == ("7", '["y"]')
    assert "the column error of the table is written as given_error" in capsys.readouterr().err
    (row,) = json.loads(written(True, Row(PAIR, CAPTIONS[:1], changed=False)))
    assert (row["changed"], row["id"], row["tags"]) == ("no", 7, ["y"])


def test_all_answers_are_written():
    (row,) = csv.DictReader(written(False, Row(PAIR, CAPTIONS, changed=True), answers=3).splitlines())
    assert (row["caption"], row["caption_2"], row["log_prob_2"], row["caption_3"]) == (
        "a house",
        "a barn",
        "-2.0",
        "",
    )
    (row,) = json.loads(written(True, Row(PAIR, CAPTIONS, changed=True), answers=3))
    assert [answer["caption"] for answer in row["answers"]] == ["a house", "a barn"]


def test_a_pair_with_an_error_has_no_decision():
    (row,) = csv.DictReader(written(False, Row(PAIR, error="damaged")).splitlines())
    assert (row["changed"], row["caption"], row["error"]) == ("", "", "damaged")
    assert json.loads(written(True, Row(PAIR, error="damaged")))[0]["changed"] is None


def test_an_empty_table_is_valid():
    assert json.loads(written(True, extra=())) == []
    columns = "img_A,img_B,seg_A,seg_B,changed,change_probability,caption,log_prob,error\n"
    assert written(False, extra=()) == columns
