"""Captions of other programs: forms of their files, names of pairs, words."""

import json
from pathlib import Path

import pytest

from data.errors import UserError
from tools.engine.given_captions import PairName, as_words, join_captions, read_given_captions

FILE = Path("theirs.json")
TEXTS = {
    "theirs.json": '[{"filename": "a.png", "caption": "a road"}, {"filename": "b.png", "caption": "trees"}]',
    "coco.json": '[{"image_id": "a.png", "caption": "a road"}, {"image_id": "b.png", "caption": "trees"}]',
    "lines.jsonl": '{"image": "a.png", "caption": "a road"}\n\n{"image": "b.png", "caption": "trees"}\n',
    "theirs.csv": "Filename;Caption;Score\na.png;a road;1\nb.png;trees;2\n",
    "image.tsv": "image\tcaption\na.png\ta road\nb.png\ttrees\n",
    "caption_py.csv": "img_A,img_B,changed,caption\na.png,2/a.png,1,a road\nb.png,2/b.png,1,trees\n",
}


def pairs_of(*names: str, split: str = "test") -> list[PairName]:
    return [PairName(split, name) for name in names]


def joined(names: list[str], pairs: list[PairName]) -> list[str]:
    """The names in the order of the pairs: each is given as the caption of itself."""
    return join_captions([(name, name) for name in names], pairs, FILE)


def refusal(names: list[str], pairs: list[PairName]) -> str:
    with pytest.raises(UserError) as caught:
        joined(names, pairs)
    return str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
def test_forms(tmp_path, name):
    (tmp_path / name).write_text(TEXTS[name])
    assert read_given_captions(tmp_path / name) == [("a.png", "a road"), ("b.png", "trees")]


def read_rows(content: object, folder: Path) -> list:
    path = folder / "theirs.json"
    path.write_text(json.dumps(content))
    return read_given_captions(path)


def test_ids_are_names(tmp_path):
    assert read_rows([{"image_id": 7, "caption": "a road"}], tmp_path) == [("7", "a road")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.png": "a road"}, r"must hold a list of objects, got .*: give captions.json of eval.py"),
        (["a road"], r"must hold a list of objects"),
        ([], r"holds no caption: give"),
        (
            [{"name": "a.png", "caption": "x"}],
            r"caption 1 must have filename and caption, got .*name, caption",
        ),
        ([{"filename": "a.png"}], r"caption 1 must have filename and caption, got .*filename"),
        ([{"filename": "a.png", "caption": ["x"]}], r"caption must be text, got \['x'\]: give one sentence"),
        ([{"filename": "a.png", "caption": None}], r"caption must be text, got None"),
        (
            [{"filename": 1.5, "caption": "x"}],
            r"filename must be the file name of a pair, got 1.5: correct it",
        ),
        ([{"image_id": True, "caption": "x"}], r"image_id must be the file name of a pair, got True"),
        ([{"filename": " ", "caption": "x"}], r"filename must be the file name of a pair, got ' '"),
    ],
)
def test_other_forms_are_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_rows(content, tmp_path)


def test_a_table_without_a_header_and_a_folder_are_refused(tmp_path):
    (tmp_path / "theirs.csv").write_text("a.png,a road\nb.png,trees\n")
    with pytest.raises(
        UserError, match=r"must have filename and caption, got 'a.png, a road': .* a CSV file"
    ):
        read_given_captions(tmp_path / "theirs.csv")
    with pytest.raises(UserError, match="is a folder: name the file"):
        read_given_captions(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere.csv not found: give"):
        read_given_captions(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("00001.png", "00001.png"),
        ("00001", "00001.png"),
        ("00001.png", "00001"),
        ("00001.tif", "00001.PNG"),
        ("/data/test/A/00001.png", "00001.png"),
        (r"C:\data\test\00001.jpg", "00001.png"),
        ("./city/00001.png", "city/00001.png"),
        ("00001.png", "city/00001.png"),
        ("A/city/00001", "city/00001.png"),
        ("1", "00001.png"),
        ("tile_1.5", "tile_1.5.png"),
        ("tile_1.5", "tile_1.5"),
    ],
)
def test_names_fit_with_other_folders_and_suffixes(capsys, name, filename):
    assert joined([name], pairs_of(filename)) == [name]
    remark = f"names that differ from those of the input files: 1 ({name} is {filename})"
    assert (remark in capsys.readouterr().err) == (name != filename)


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("00002.png", "00001.png"),
        ("town/00001.png", "city/00001.png"),
        ("train/A/00001.png", "00001.png"),
        ("1", "test_00001.png"),
        ("A.png", "a.png"),
        ("tile_1.5", "tile_1.png"),
        (".png", "00001.png"),
        ("/", "00001.png"),
    ],
)
def test_other_names_do_not_fit(name, filename):
    assert f"captions of no pair: 1 ({name})" in refusal([name], pairs_of(filename))


def test_captions_are_in_the_order_of_the_pairs():
    names = ["b", "c.png", "x/a.png"]
    assert joined(names, pairs_of("a.png", "b.png", "c.png")) == ["x/a.png", "b", "c.png"]


def test_an_equal_name_is_preferred():
    pairs = pairs_of("a.png", "a.tif", "b/c.png", "c.png")
    assert joined(["c", "b/c", "a.tif", "a.png"], pairs) == ["a.png", "a.tif", "b/c", "c"]


def test_missing_repeated_unknown_and_ambiguous_names_are_listed():
    pairs = pairs_of("a.png", "b.png", "c.png", "d.png", "e.png", "x/f.png", "y/f.png")
    message = refusal(["a.png", "A/a.png", "z.png", "{}.png", "f.png"], pairs)
    assert message.startswith("theirs.json must have one caption for each pair of test; ")
    assert "pairs without a caption: 6 (b.png; c.png; d.png; ...), add them" in message
    assert "pairs with several captions: 1 (a.png), keep one of each" in message
    assert (
        "captions of no pair: 2 (z.png; {}.png), remove them, write file names such as a.png, or" in message
    )
    assert "ambiguous names: 1 (f.png can be test/x/f.png or test/y/f.png), write them as in" in message


def test_the_same_caption_twice_is_refused():
    assert "pairs with several captions: 1 (a.png)" in refusal(["a.png", "a.png"], pairs_of("a.png"))


def test_a_folder_names_the_split():
    pairs = pairs_of("1.png", split="val") + pairs_of("1.png")
    names = ["data/test/1.png", "data/val/1.png"]
    assert joined(names, pairs) == names[::-1]
    assert "ambiguous names: 2 (1.png can be val/1.png or test/1.png; 1.png" in refusal(["1.png"] * 2, pairs)


def test_ids_that_are_not_names_are_refused():
    message = refusal(["0", "1"], pairs_of("test_000000.png", "test_000001.png"))
    assert "replace ids, which the input files do not have, by file names such as test_000000.png" in message
    message = refusal(["001"], pairs_of("1.png", "01.png"))
    assert "ambiguous names: 1 (001 can be test/1.png or test/01.png)" in message


def test_captions_become_words_as_references_are(capsys):
    given = ["A house, near t-shaped roads.", "a <unk> a\\almost", "a  road"]
    words = as_words(given, {"<unk>", "a\\almost", "t-shaped"}, FILE)
    assert words == ["a house near t-shaped roads", "a <unk> a\\almost", "a road"]
    remark = (
        'theirs.json: 2 captions are scored in lower case without punctuation, as references are ("A house'
    )
    assert remark in capsys.readouterr().err


def test_words_of_references_stay_as_they_are(capsys):
    assert as_words(["a House .", "trees"], {"House", "."}, FILE) == ["a House .", "trees"]
    assert capsys.readouterr().err == ""


def test_captions_without_words_are_counted(capsys):
    assert as_words(["", " ... ", "trees"], (), FILE) == ["", "", "trees"]
    assert "theirs.json: 2 captions have no words" in capsys.readouterr().err
