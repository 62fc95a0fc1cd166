"""The table of pairs: formats, delimiters, names of columns, other columns."""

import json
from pathlib import Path

import pytest

from data.errors import UserError
from data.pair_table import parse_columns, read_pairs_file


def table(folder: Path, content: str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.TXT"])
def test_the_delimiter_is_found(tmp_path, delimiter, name):
    content = f'img_A{delimiter}img_B{delimiter}note\na.png{delimiter}b.png{delimiter}"x,y;z\t"\n'
    (pair,) = read_pairs_file(table(tmp_path, content, name))
    assert pair.given == {"img_A": "a.png", "img_B": "b.png"}
    assert pair.extra == {"note": "x,y;z\t"}
    assert pair.path("img_A") == tmp_path / "a.png"
    assert pair.path("seg_B") is None


ROWS = [{"img_A": "a.png", "img_B": "b.png", "id": 7, "tags": ["x"]}, {"img_A": "c.png", "img_B": "/d.png"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.json", json.dumps(ROWS)),
        ("pairs.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("pairs.ndjson", "\r\n".join(map(json.dumps, ROWS))),
    ],
)
def test_json_keeps_the_values_of_other_columns(tmp_path, name, content):
    first, second = read_pairs_file(table(tmp_path, content, name))
    assert first.extra == {"id": 7, "tags": ["x"]}
    assert second.extra == {"id": None, "tags": None}
    assert second.path("img_B") == Path("/d.png")


@pytest.mark.parametrize(
    "header",
    [
        "IMG_a,Img-B,SEG A,segB",
        "before,after,map_before,map_after",
        "Image 1,Image 2,Label 1,Label 2",
        "t1,t2,mask_t1,mask_t2",
        "pre_image,post_image,pre_mask,post_mask",
        "A,B,sem_A,sem_B",
        "before_path,after_path,map_before_path,map_after_path",
        " im1 , im2 ,seg1,seg2",
    ],
)
def test_common_names_of_columns_are_recognised(tmp_path, header):
    (pair,) = read_pairs_file(table(tmp_path, f"{header}\n1,2,3,4\n"))
    assert pair.given == {"img_A": "1", "img_B": "2", "seg_A": "3", "seg_B": "4"}
    assert not pair.extra


def test_recognised_names_are_reported(tmp_path, capsys):
    path = table(tmp_path, "before,IMG_B\n1,2\n")
    read_pairs_file(path)
    assert capsys.readouterr().err == f"{path}: img_A is before\n"
    read_pairs_file(table(tmp_path, "img_A,img_B,before\n1,2,3\n"))
    assert capsys.readouterr().err == ""


def test_the_name_itself_has_precedence_over_synonyms(tmp_path):
    (pair,) = read_pairs_file(table(tmp_path, "before,img_A,img_a,after\n1,2,3,4\n"))
    assert pair.given == {"img_A": "2", "img_B": "4"}
    assert pair.extra == {"before": "1", "img_a": "3"}


def test_columns_are_named(tmp_path):
    path = table(tmp_path, "alt,neu,img_A\n1,2,3\n")
    (pair,) = read_pairs_file(path, parse_columns("img_A=alt, img_B = neu"))
    assert pair.given == {"img_A": "1", "img_B": "2"}
    assert pair.extra == {"img_A": "3"}
    with pytest.raises(
        UserError, match="--columns must name columns of .*, got old: choose from alt, neu, img_A"
    ):
        read_pairs_file(path, {"img_A": "old"})


@pytest.mark.parametrize("text", ["img_A", "img_A=", "img=x", "img_A=x,img_A=y", ""])
def test_a_wrong_form_of_columns_is_named(text):
    with pytest.raises(UserError, match="--columns must name img_A, .*: write img_A=before,img_B=after"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "before,pre,after\n1,2,3\n",
            "must have one column for img_A, got before and pre: .*--columns img_A=before",
        ),
        (
            "a/1.png,b/1.png\na/2.png,b/2.png\n",
            "must have the columns img_A and img_B, got a/1.png, b/1.png: write",
        ),
        (
            "img_A,img_B\n1,2,3\n",
            "line 2: a row must have at most 2 cells, .* got 3: put text with ',' in quotes",
        ),
        ('img_A,img_B\n1,"2\n3,4\n', "is not a CSV table"),
        ("img_A,img_A,img_B\n1,2,3\n", "must have different columns, got img_A 2 times: rename them"),
        ("img_A,img_B\n,2\n", "row 1: a pair needs img_A and img_B"),
        ("", "holds no pair: give a header"),
    ],
)
def test_mistakes_are_named(tmp_path, content, message):
    path = table(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        read_pairs_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.json", '{"img_A": {"0": "a"}}', "must be a list of objects"),
        ("pairs.json", '["a"]', "must be a list of objects"),
        ("pairs.json", '[{"img_A": 1, "img_B": "b"}]', "row 1: img_A must be a path, got 1: make it text"),
        ("pairs.jsonl", '{"img_A": "a", "img_B": "b"}\n{"img_A', "line 2 is not JSON"),
    ],
)
def test_mistakes_in_json_are_named(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read_pairs_file(table(tmp_path, content, name))


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(
        UserError, match="is a folder: give a table, or two folders of images without --pairs"
    ):
        read_pairs_file(tmp_path)


def test_empty_rows_and_cells_are_allowed(tmp_path):
    pairs = read_pairs_file(table(tmp_path, "\nimg_A,img_B,seg_A,seg_B,\n1, 2,,\n,,,,\n\n3,4\n"))
    assert [pair.given for pair in pairs] == [{"img_A": "1", "img_B": "2"}, {"img_A": "3", "img_B": "4"}]


@pytest.mark.parametrize(
    "content",
    [
        'img_A;img_B;"note, of, many, words"\na;b;c\n',
        '"img_A";"img_B";x,y,z,w\na;b;c\n',
        "sep=;\nimg_A;img_B;note\na;b;c\n",
        "img_A\timg_B\tx;y,z;w,v\r\na\tb\tc\r\n",
    ],
)
def test_other_delimiters_in_names_do_not_count(tmp_path, content):
    (pair,) = read_pairs_file(table(tmp_path, content))
    assert pair.given == {"img_A": "a", "img_B": "b"}
    assert list(pair.extra.values()) == ["c"]


def test_a_long_header_is_cut_in_messages(tmp_path):
    path = table(tmp_path, ",".join(f"column{number}" for number in range(1000)) + "\n1\n")
    with pytest.raises(UserError, match=r"got column0, .*\[\.\.\.\]: write these names") as caught:
        read_pairs_file(path)
    assert len(str(caught.value)) < 500
