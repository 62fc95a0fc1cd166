"""SPICE (Anderson et al., 2016) from the jar of pycocoevalcap, where its language models are installed."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocoevalcap import spice as packaged

from tools.meteor import Segment

HOME = Path(packaged.__file__).parent
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
JAVAS = range(8, 15)  # the jar writes its answer with a JavaScript engine, which Java lost with version 15


class SpiceError(RuntimeError):
    """SPICE has no answer; the message says why."""


class Spice:
    """SPICE of segments, each distinct segment computed once.

    We call the jar ourselves because pycocoevalcap's class downloads the models unasked, prints, and writes
    beside its own code. The jar and its result are the same.
    """

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
        """The jar's answers: it parses every sentence, some thousands a minute."""
        if not all((self._home / "lib" / name).is_file() for name in MODELS):
            raise SpiceError("its models are not installed, see README.md")
        asked = [
            {"image_id": place, "test": caption, "refs": list(references)}
            for place, (caption, references) in enumerate(segments)
        ]
        with tempfile.TemporaryDirectory() as folder:
            question, answer = Path(folder, "question.json"), Path(folder, "answer.json")
            question.write_text(json.dumps(asked))
            options = ["-Xmx8G", "-jar", "spice-1.0.jar", question, "-out", answer, "-silent"]
            done = subprocess.run([_java(), *options], cwd=self._home, capture_output=True, text=True)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.strip() and line[0] != "\t"]
                raise SpiceError(f"its Java ended with code {done.returncode}: {' '.join(said[-1:])}")
            found = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answer.read_text())}
        return [float(found[place]) for place in range(len(segments))]


def _java() -> str:
    """The Java on the PATH, if it can run the jar; the bundled one is too new."""
    java = shutil.which("java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr if java else ""
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if not version or int(version[1]) not in JAVAS:
        found = f"version {version[1]}" if version else "none"
        raise SpiceError(f"java {JAVAS[0]} to {JAVAS[-1]} must be on the PATH, found {found}")
    return java
