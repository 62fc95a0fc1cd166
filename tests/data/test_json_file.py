"""JSON, JSON Lines and CSV files: each error is one line with the file, the rule and the remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.authors_files import read_word_map
from data.json_file import read_csv, read_json, read_json_lines, read_table
from data.pair_table import read_pairs_file
from data.sources import read_dataset
from data.vocabulary import Vocabulary
from tools.scoring.results import read_scores

DEEP = "[" * 100_000 + "]" * 100_000
READERS = (read_pairs_file, read_word_map, read_dataset, Vocabulary.load, read_scores)


def write_file(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(read: Callable, *arguments: object) -> str:
    """The message of the ValueError or OSError that `read` raises."""
    with pytest.raises((ValueError, OSError)) as caught:
        read(*arguments)
    return str(caught.value)


def test_json_is_read_in_every_unicode_encoding(tmp_path):
    content = {"words": ["maison", "\u00e9glise"]}
    text = json.dumps(content, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert read_json(write_file(tmp_path / "a.json", text.encode(encoding)), "repair it") == content


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("{", "is not JSON (Expecting property name"),
        (DEEP, "is not JSON that can be read (nested too deeply)"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "is not JSON that can be read (nested too deeply)"),
        ("\u00e9".encode("latin-1"), "must be text in UTF-8 or UTF-16 (unexpected end of data at byte 0)"),
        (b"\xff\xfe[", "must be text in UTF-8 or UTF-16 (truncated data at byte 2)"),
        (f"[{'1' * 10_000}]", "is not JSON (Exceeds the limit"),
        ("x" * 10_000_000, "is not JSON (Expecting value"),
        ("", "is not JSON (Expecting value"),
    ],
    ids=["cut", "deep list", "deep object", "Latin-1", "half of UTF-16", "long number", "long line", "empty"],
)
def test_a_file_that_is_not_json_ends_in_one_line(tmp_path, content, rule):
    path = write_file(tmp_path / "a.json", content)
    message = refusal(read_json, path, "repair it")
    assert message.startswith(f"{path} {rule}")
    assert message.endswith("repair it")
    assert len(message) < 400
    assert "\n" not in message


def test_missing_file_and_folder_are_not_found(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, write_file(tmp_path / "a", "") / "b.json"):
        assert refusal(read_json, path, "repair it") == f"{path} not found: repair it"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "content", [DEEP, b"\xff\xfe", "{", "[" * 900 + "]" * 900], ids=["deep", "encoding", "cut", "900 levels"]
)
def test_every_reader_names_the_file(tmp_path, read, content):
    path = write_file(tmp_path / "a.json", content)
    message = refusal(read, path)
    assert message.startswith(str(path))
    assert ": " in message.removeprefix(str(path))
    assert len(message) < 400


def test_unfinished_last_line_is_dropped(tmp_path):
    path = write_file(tmp_path / "log.jsonl", '{"epoch": 1}\n{"epoch": 2, "val": {"bleu_4": 3}')
    assert read_json_lines(path, "repair it") == [{"epoch": 1}]
    assert read_json_lines(write_file(path, '{"epoch": 1}\n{"epoch": 2}\n'), "repair it")[-1] == {"epoch": 2}
    assert read_json_lines(write_file(path, ""), "repair it") == []
    assert "is not JSON" in refusal(
        read_json_lines, write_file(path, '{"epoch"\n{"epoch": 2}\n'), "repair it"
    )


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("img_A,img_B\n" + "x" * 200_000 + ",b.png\n", "is not a CSV table (field larger than"),
        (b"img_A,img_B\n\xff,b.png\n", "must be text in UTF-8 or UTF-16"),
        ("[" * 200_000, "is not a CSV table"),
    ],
    ids=["field", "encoding", "header"],
)
def test_a_table_that_cannot_be_read_ends_in_one_line(tmp_path, content, rule):
    path = write_file(tmp_path / "pairs.csv", content)
    message = refusal(read_pairs_file, path)
    assert message.startswith(str(path))
    assert rule in message
    assert len(message) < 600


def test_a_table_is_read_by_column(tmp_path):
    text = '\ufeffa,b\n1,"two\nlines"\n'
    for encoding in ("utf-8", "utf-16-le"):
        path = write_file(tmp_path / "a.csv", text.encode(encoding))
        assert read_csv(path, "repair it") == [{"a": "1", "b": "two\nlines"}]


def test_a_damaged_line_is_named(tmp_path):
    path = write_file(tmp_path / "rows.jsonl", '{"a": 1}\n\n{"a": 2')
    assert refusal(read_table, path, "repair it").startswith(f"{path}, line 3 is not JSON")


def test_a_table_in_another_encoding_is_to_be_saved_as_utf_8(tmp_path):
    path = write_file(tmp_path / "a.csv", "caption\n\u00e9\n".encode("latin-1"))
    assert refusal(read_csv, path, "repair it").endswith("): save it as UTF-8")
