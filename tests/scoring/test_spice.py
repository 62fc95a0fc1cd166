"""SPICE: missing models, the command for each Java version, and the answers of a replacement for Java."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.scoring import Record, score
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import AVERAGED
from tools.scoring.spice import HOME, MODELS, PROGRAM, Spice, SpiceError
from tools.scoring.table import format_table

SEGMENTS = [("a road", ("a road is built", "roads")), ("", ("a house",)), ("a road", ("a house",))]
ANSWER = """
import json, sys
question, answer = (argument for argument in sys.argv if argument.endswith(".json"))
asked = json.load(open(question))
print(len(asked), file=open("calls", "a"))
found = [{"image_id": item["image_id"], "scores": {"All": {"f": len(item["test"]) / 10}}} for item in asked]
json.dump(found[::-1], open(answer, "w"))
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
    """A program that replaces Java."""
    message = f"""if [ "$1" = -version ]; then echo 'openjdk version "{version}"' >&2; exit; fi"""
    (folder / "java").write_text(f"#!/bin/sh\n{message}\n{script}\n")
    (folder / "java").chmod(0o755)


@pytest.mark.skipif((HOME / "lib" / MODELS[0]).exists(), reason="the models are installed")
def test_absent_models_are_not_downloaded_but_named():
    with pytest.raises(SpiceError, match=r"its models are not installed, see docs/results\.md"):
        Spice().rows(SEGMENTS)
    assert not (HOME / "lib" / MODELS[0]).exists()


def recorded(home: Path, version: str, modules: str = "") -> list[str]:
    """The arguments that a Java of this version receives."""
    answer = f'printf "%s\\n" "$@" > {home / "arguments"}; exec {sys.executable} {home / "answer.py"} "$@"'
    listed = f'if [ "$1" = --list-modules ]; then echo "{modules}"; exit; fi'
    stand_in(home, version, f"{listed}\n{answer}")
    np.testing.assert_allclose(Spice(home).rows(SEGMENTS), [[0.6], [0], [0.6]])
    return (home / "arguments").read_text().split()


def test_java_8_runs_the_jar_without_unknown_options(home):
    arguments = recorded(home, "1.8.0_101")
    assert arguments[1:3] == ["-jar", "spice-1.0.jar"]
    assert not any(argument.startswith("--add-opens") for argument in arguments)


@pytest.mark.parametrize("version", ["9.0.4", "11.0.1", "14"])
def test_java_9_to_14_open_their_packages_to_the_jar(home, version):
    arguments = recorded(home, version)
    assert "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED" in arguments
    assert "-jar" in arguments


@pytest.mark.parametrize("version", ["15.0.2", "17.0.15", "25"])
def test_later_javas_run_our_program_instead_of_the_main_method(home, version):
    arguments = recorded(home, version, modules="java.base jdk.compiler@17")
    assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in arguments
    assert arguments[arguments.index("-cp") + 1] == "spice-1.0.jar"
    assert str(PROGRAM) in arguments


def test_a_java_without_a_compiler_is_named(home):
    stand_in(home, "17.0.15", "echo java.base@17.0.15")
    with pytest.raises(SpiceError, match="java 17 must be a JDK, found a JRE without jdk.compiler"):
        Spice(home).rows(SEGMENTS)


def test_a_java_that_is_too_old_is_named(home):
    stand_in(home, "1.7.0", "exit 0")
    with pytest.raises(SpiceError, match="java 8 or later must be on the PATH, found version 7"):
        Spice(home).rows(SEGMENTS)


def test_our_program_compiles_against_the_jar(tmp_path):
    compiler = shutil.which("javac")
    if not compiler:
        pytest.skip("no javac on the PATH")
    jars = f"{HOME / 'spice-1.0.jar'}:{HOME / 'lib' / 'json-simple-1.1.1.jar'}"
    options = ["-proc:none", "-cp", jars, "-d", str(tmp_path)]
    subprocess.run([compiler, *options, str(PROGRAM)], check=True, capture_output=True)
    assert (tmp_path / "SpiceScores.class").is_file()


def test_without_java_the_reason_says_so(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpiceError, match="must be on the PATH, found none"):
        Spice(home).rows(SEGMENTS)


def test_a_failing_jar_is_named(home):
    stand_in(home, "11.0.1", "echo 'Exception: no memory' >&2; printf '\\tat Main\\n' >&2; exit 3")
    with pytest.raises(SpiceError, match="its Java ended with code 3: Exception: no memory"):
        Spice(home).rows(SEGMENTS)


def test_each_distinct_segment_is_computed_once(home):
    spice = Spice(home)
    np.testing.assert_allclose(spice.rows([*SEGMENTS, SEGMENTS[0]]), [[0.6], [0], [0.6], [0.6]])
    np.testing.assert_allclose(spice.rows([SEGMENTS[1], ("é", ("é",))]), [[0], [0.1]])
    assert (home / "calls").read_text().split() == ["3", "1"]


def test_spice_is_reported_alone_and_in_a_mean_with_s_m(home, meteor: Meteor):
    same = "the scene is the same as before"
    records = [Record("1.png", "a road", ("a road", "roads"), True), Record("2.png", same, (same,), False)]
    actual = score(records, meteor, no_change=[same], training=None, resamples=20, optional=[Spice(home)])
    scores = actual["ours"]["all"]
    assert scores["spice"]["value"] == pytest.approx(100 * (0.6 + 3.1) / 2)
    five = [scores[metric]["value"] for metric in (*AVERAGED, "spice")]
    assert scores["s_m_spice"]["value"] == pytest.approx(np.mean(five))
    assert scores["s_m"]["value"] == pytest.approx(np.mean(five[:4]))
    assert (home / "calls").read_text().split() == ["2"]  # the parts share their segments
    header, first = format_table(actual).splitlines()[:2]
    assert header.split()[-4:] == ["SPICE", "S*m", "with", "SPICE"]
    assert first.split()[-2:] == [f"{scores['spice']['value']:.1f}", f"{np.mean(five):.1f}"]


@pytest.mark.skipif(not (HOME / "lib" / MODELS[0]).exists(), reason="the models are not installed")
def test_the_real_jar_prefers_the_caption_that_says_what_the_references_say():
    references = ("a house is built near the road", "a new house stands beside a road")
    same, other = Spice().rows([(references[0], references), ("green trees", references)])[:, 0]
    assert same > 0.5 > other
