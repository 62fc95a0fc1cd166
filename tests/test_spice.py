"""SPICE around its jar: its absence, the right Java, and what becomes of an answer (a stand-in gives it)."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tools.meteor import Meteor
from tools.metrics import AVERAGED
from tools.score_table import format_table
from tools.scoring import Record, score
from tools.spice import HOME, MODELS, Spice, SpiceError

SEGMENTS = [("a road", ("a road is built", "roads")), ("", ("a house",)), ("a road", ("a house",))]
ANSWER = """
import json, sys
asked = json.load(open(sys.argv[4]))
print(len(asked), file=open("calls", "a"))
found = [{"image_id": item["image_id"], "scores": {"All": {"f": len(item["test"]) / 10}}} for item in asked]
json.dump(found[::-1], open(sys.argv[6], "w"))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, and a stand-in for Java 8 first on the PATH."""
    (tmp_path / "lib").mkdir()
    for name in MODELS:
        (tmp_path / "lib" / name).touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    stand_in(tmp_path, "1.8.0_101", f'exec {sys.executable} {tmp_path / "answer.py"} "$@"')
    (tmp_path / "answer.py").write_text(ANSWER)
    return tmp_path


def stand_in(folder: Path, version: str, script: str) -> None:
    """A program in Java's place."""
    said = f"""if [ "$1" = -version ]; then echo 'openjdk version "{version}"' >&2; exit; fi"""
    (folder / "java").write_text(f"#!/bin/sh\n{said}\n{script}\n")
    (folder / "java").chmod(0o755)


@pytest.mark.skipif((HOME / "lib" / MODELS[0]).exists(), reason="the models are installed")
def test_absent_models_are_not_downloaded_but_named():
    with pytest.raises(SpiceError, match=r"its models are not installed, see README\.md"):
        Spice().rows(SEGMENTS)
    assert not (HOME / "lib" / MODELS[0]).exists()


@pytest.mark.parametrize("version", ["17.0.15", "25"])
def test_a_java_that_cannot_run_the_jar_is_named(home, version):
    stand_in(home, version, "exit 0")
    found = version.partition(".")[0]
    with pytest.raises(SpiceError, match=f"java 8 to 14 must be on the PATH, found version {found}"):
        Spice(home).rows(SEGMENTS)


def test_without_java_the_reason_says_so(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpiceError, match="must be on the PATH, found none"):
        Spice(home).rows(SEGMENTS)


def test_a_failing_jar_is_named(home):
    stand_in(home, "11.0.1", "echo 'Exception: no memory' >&2; printf '\\tat Main\\n' >&2; exit 3")
    with pytest.raises(SpiceError, match="its Java ended with code 3: Exception: no memory"):
        Spice(home).rows(SEGMENTS)


def test_each_distinct_segment_is_asked_for_once(home):
    spice = Spice(home)
    np.testing.assert_allclose(spice.rows([*SEGMENTS, SEGMENTS[0]]), [[0.6], [0], [0.6], [0.6]])
    np.testing.assert_allclose(spice.rows([SEGMENTS[1], ("é", ("é",))]), [[0], [0.1]])
    assert (home / "calls").read_text().split() == ["3", "1"]


def test_spice_stands_beside_the_others_and_in_a_mean_of_five(home, meteor: Meteor):
    same = "the scene is the same as before"
    records = [Record("1.png", "a road", ("a road", "roads"), True), Record("2.png", same, (same,), False)]
    found = score(records, meteor, no_change=[same], resamples=20, spice=Spice(home))
    scores = found["ours"]["all"]
    assert scores["spice"]["value"] == pytest.approx(100 * (0.6 + 3.1) / 2)
    five = [scores[metric]["value"] for metric in (*AVERAGED, "spice")]
    assert scores["s_m_spice"]["value"] == pytest.approx(np.mean(five))
    assert scores["s_m"]["value"] == pytest.approx(np.mean(five[:4]))
    assert (home / "calls").read_text().split() == ["2"]  # the parts share their segments
    header, first = format_table(found).splitlines()[:2]
    assert header.split()[-4:] == ["SPICE", "S*m", "of", "5"]
    assert first.split()[-2:] == [f"{scores['spice']['value']:.1f}", f"{np.mean(five):.1f}"]
