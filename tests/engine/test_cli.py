"""Scripts start from any folder; errors and killed workers give one line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.hdf5 import new_file
from tests.conftest import CONFIGS, entry

pytestmark = pytest.mark.integration

ROOT = CONFIGS.parent
LOADER = """
import os, signal
from torch.utils.data import DataLoader, Dataset
from data.errors import UserError
from tools.engine import cli
class Killed(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.{name})
def main():
    list(DataLoader(Killed(), num_workers=1))
cli.run(main)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGBUS"])
def test_a_killed_data_worker_ends_in_one_line(name):
    words = [sys.executable, "-c", LOADER.replace("{name}", name)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert re.search(r"error: DataLoader worker .*memory or shared memory: use fewer --data.workers", line)
    assert "Traceback" not in done.stderr


def test_error_in_a_data_worker_ends_in_one_line():
    raising = 'raise UserError("train.hdf5 is damaged: prepare it again")'
    script = LOADER.replace("os.kill(os.getpid(), signal.{name})", raising)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("error: train.hdf5 is damaged: prepare it again")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", ["RuntimeError('a bug')", "KeyError('a bug')", "ValueError('a bug')"])
def test_other_errors_keep_their_traceback(error):
    script = f"from tools.engine import cli\ndef main():\n    raise {error}\ncli.run(main)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def children(process: subprocess.Popen) -> Sequence[int]:
    """The processes that a process has started."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_killed_worker_of_preparation_is_not_called_a_full_disk(second_cc_folder):
    """Large views, so that a worker is usually killed while it sends some."""
    root = second_cc_folder([entry(f"{n:03}.png", "train", "a house appears") for n in range(60)])
    words = [sys.executable, str(ROOT / "tools" / "create_input_files.py"), "--dataset_dir", str(root)]
    words += ["--output_dir", str(root / "created"), "--image_size", "1500", "--workers", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not any(path.stat().st_size > 10_000_000 for path in (root / "created").rglob("train.hdf5*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    for worker in children(process):
        os.kill(worker, signal.SIGKILL)
    line = process.communicate(timeout=100)[1].splitlines()[-1]
    assert process.returncode == 2
    assert "error: a worker process was killed, most likely for lack of memory: use fewer --workers" in line
    assert not (root / "created").exists()


def test_an_error_inside_a_new_file_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"), new_file(tmp_path / "a.hdf5"):
        raise RuntimeError("CUDA out of memory")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", sorted((ROOT / "tools").glob("*.py")), ids=lambda script: script.stem)
def test_help_of_every_script_works_from_any_folder(script, tmp_path):
    if "cli.run(main)" not in script.read_text():
        pytest.skip("a library")
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


def script(body: str, after: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run `body` as the main function of a script; the shell words `after` process its output."""
    code = f"from tools.engine import cli\ndef main():\n    {body}\ncli.run(main)"
    words = ["bash", "-c", f'{sys.executable} -c "$0" {after}; echo "exit ${{PIPESTATUS[0]}}" >&2', code]
    return subprocess.run(words, capture_output=True, cwd=ROOT, env={**os.environ, **environment})


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_unencodable_characters_are_escaped(encoding):
    done = script(r"print('a \u524d \udcff b')", PYTHONIOENCODING=encoding)
    assert done.stdout == rb"a \u524d \udcff b" + b"\n"
    assert done.stderr == b"exit 0\n"


def test_bytes_of_file_names_do_not_end_a_script():
    assert script(r"print('a \udcff b')", PYTHONIOENCODING="utf-8").stdout == rb"a \udcff b" + b"\n"


@pytest.mark.parametrize(
    "body", ["print('line\\n' * 100000)", "[print('line', flush=True) for _ in range(9999)]"]
)
def test_closed_output_pipe_ends_a_script_quietly(body):
    done = script(body, "| head -1")
    assert done.stdout == b"line\n"
    assert done.stderr == b"exit 141\n"


def test_error_is_printed_after_the_reader_has_gone():
    done = script(
        "print('line'); from data.errors import UserError; raise UserError('too large: use less')",
        "| true",
        PYTHONUNBUFFERED="",
    )
    assert done.stderr == b"-c: error: too large: use less\nexit 2\n"


def test_the_help_of_a_script_can_be_cut():
    done = script("print('line' * 100000, end=''); raise SystemExit", "| true")
    assert b"Exception ignored" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_for_standard_output_ends_in_one_line():
    done = script("print('line')", "> /dev/full")
    assert done.stderr == (
        b"-c: error: the output cannot be written in full (No space left on device): free disk space and try "
        b"again\nexit 2\n"
    )


def test_closed_standard_output_ends_in_one_line():
    done = script("print('line')", ">&-")
    assert done.stderr == b"-c: error: standard output is closed: redirect it to a file or a pipe\nexit 2\n"
    assert script("pass", ">&-").stderr == b"exit 0\n"


def test_remarks_for_a_closed_standard_error_are_discarded():
    done = script("import sys; print('line'); print('remark', file=sys.stderr)", "2>&-")
    assert done.stdout == b"line\n"
    assert done.stderr == b"exit 0\n"
