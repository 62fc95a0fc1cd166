"""Progress bars appear on a terminal and nowhere else."""

import io
from contextlib import redirect_stderr

import pytest

from tests.conftest import CONFIGS
from tools.engine.progress_bar import progress_bar

ROOT = CONFIGS.parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shown", "expected"),
    [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)],
    ids=["terminal", "process that writes nothing", "log file"],
)
def test_a_bar_appears_only_on_the_terminal_of_a_process_that_writes(stream, shown, expected):
    with redirect_stderr(stream):
        assert list(progress_bar(range(3), "work", unit="step", shown=shown)) == [0, 1, 2]
    assert ("work" in stream.getvalue()) == expected


def test_every_bar_of_the_project_is_made_by_progress_bar():
    sources = list(ROOT.glob("*.py"))
    for folder in ("data", "models", "tools"):
        sources += ROOT.glob(f"{folder}/**/*.py")
    users = [path.relative_to(ROOT).as_posix() for path in sources if "tqdm" in path.read_text()]
    assert users == ["tools/engine/progress_bar.py"]
