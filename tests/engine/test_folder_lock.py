"""Only one process at a time writes into a folder; the error of the second names the first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import CONFIGS
from tests.helpers.tiny import tiny_settings
from tools import create_input_files
from tools.engine.folder_lock import LOCK, locked

pytestmark = pytest.mark.integration

ROOT = CONFIGS.parent
OWNER = """
import sys, time
from pathlib import Path
from tools.engine.folder_lock import locked
with locked(Path(sys.argv[1]), "wait"):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """A process that holds the lock of the folder `tmp_path / "folder"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "folder")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_refused_with_the_pid_of_the_first(owner, tmp_path):
    with pytest.raises(ValueError, match=rf"folder is in use by process {owner.pid} on .*: wait"):
        locked(tmp_path / "folder", "wait").__enter__()


def test_lock_of_a_killed_process_is_released(owner, tmp_path):
    owner.kill()
    owner.wait()
    assert (tmp_path / "folder" / LOCK).exists()
    with locked(tmp_path / "folder", "wait"):
        assert str(os.getpid()) in (tmp_path / "folder" / LOCK).read_text()
    assert not (tmp_path / "folder" / LOCK).exists()


def test_a_child_of_a_killed_owner_does_not_keep_the_lock(tmp_path):
    # The child prints: it then runs, and has closed its copy of the lock.
    script = OWNER.replace('print("locked"', 'import os\n    os.fork() or print("locked"')
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "folder")], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "locked\n"
    process.kill()
    process.wait()
    try:
        with locked(tmp_path / "folder", "wait"):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_folder_created_for_the_lock_is_removed(tmp_path):
    with locked(tmp_path / "new", "wait"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()


def test_a_second_preparation_into_a_folder_is_refused(owner, tmp_path, second_cc_folder):
    argv = ["--dataset_dir", str(second_cc_folder()), "--output_dir", str(tmp_path / "folder"), "--force"]
    with pytest.raises(ValueError, match=f"in use by process {owner.pid}.* give another --output_dir"):
        create_input_files.main(argv)


@pytest.mark.slow
def test_all_processes_of_torchrun_end_if_the_run_folder_is_in_use(owner, tmp_path, demo_input):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    frozen = {"model.block_batchnorm": "frozen", "model.trunk_batchnorm": "frozen"}
    options = [*tiny_settings(demo_input, **frozen), "--run_dir", str(tmp_path / "folder")]
    started = time.monotonic()
    done = subprocess.run(
        [*launch, "train.py", "--config", "configs/second_cc.yaml", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"in use by process {owner.pid}" in done.stderr
    assert time.monotonic() - started < 250
    assert [path.name for path in Path(tmp_path / "folder").iterdir()] == [LOCK]
