"""Fact scores of an evaluation: when they are measured, and the facts of each caption."""

import pytest

from data.errors import UserError
from tools.scoring.fact_scores import add_facts, classes_of_words, facts_of_setting, measurable_facts
from tools.scoring.fact_words import ENGLISH, read_fact_words

REFERENCES = ["two houses are built on the left", "houses appear and trees are removed", "houses appear"]
ROADS = ["a road is built", "a new road appears"]


def entry(caption: str, references: list[str], changed: bool = True) -> dict:
    return {"caption": caption, "references": references, "changed": changed}


def test_facts_of_a_caption_are_right_or_wrong():
    entries = [
        entry("two houses replace a lake and trees", REFERENCES),
        entry("a road is removed", ROADS),
        entry("there is no change", ["no change"], changed=False),
    ]
    add_facts(entries, "english")
    first, second, third = entries
    stated = [(fact["label"], fact["change"], fact["right"]) for fact in first["facts"]]
    assert stated == [
        ("building", "appears", True),
        ("water", "disappears", False),
        ("tree", "disappears", True),
    ]
    assert first["facts"][0]["number"] == 2
    assert [first["caption"].split()[index] for fact in first["facts"] for index in fact["words"]] == [
        "houses",
        "lake",
        "trees",
    ]
    assert (first["contradicts"], second["contradicts"], third["contradicts"]) == (False, True, False)
    assert second["own_pair"] == 100  # its words are those of its own pair
    assert "own_pair" not in third


def test_without_word_lists_entries_have_no_facts():
    entries = [entry("a road", ROADS), entry("nothing", REFERENCES)]
    add_facts(entries, "none")
    assert all("facts" not in each and "contradicts" not in each for each in entries)
    assert entries[1]["own_pair"] == 50


def test_a_word_with_a_hyphen_or_a_comma_stays_one_word():
    words = read_fact_words()
    assert classes_of_words("a parking-lot , some trees, and non-vegetated ground", words) == [
        None,
        "parking lot",
        None,
        None,
        "tree",
        None,
        "bareland",
        "bareland",
    ]
    assert classes_of_words("", words) == []


def test_word_lists_that_do_not_fit_are_not_used():
    facts, reason = measurable_facts("english", [["des maisons", "a road is built", "une route"]])
    assert facts is None
    assert "data.facts (english)" in reason
    assert "only 33 %" in reason
    assert measurable_facts("none", [ROADS]) == (None, "no fact scores: data.facts is none")
    assert "no changed pairs" in measurable_facts("english", [])[1]
    assert measurable_facts("english", [ROADS])[0] is facts_of_setting("english")


def test_the_setting_may_be_a_file(tmp_path):
    assert facts_of_setting(str(ENGLISH)).coverage(ROADS) == 1
    with pytest.raises(FileNotFoundError, match="absent.yaml not found"):
        facts_of_setting(str(tmp_path / "absent.yaml"))
    (tmp_path / "words.yaml").write_text("classes: {}")
    with pytest.raises(UserError, match="give a file of the form of configs/facts/english.yaml"):
        facts_of_setting(str(tmp_path / "words.yaml"))
