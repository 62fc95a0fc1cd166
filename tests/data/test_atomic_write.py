"""Files are written completely or not at all, even if writing is interrupted."""

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.atomic_write import atomic_write, check_writable, remove_partial_files, write_text

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SAVE = """
import sys, torch
from pathlib import Path
from tools.engine.checkpoint import save_checkpoint
from tools.engine import cli
content = {"model": {"weight": torch.zeros(int(sys.argv[2]))}}
cli.run(lambda: save_checkpoint(Path(sys.argv[1]), content))
"""


def interrupted_write(path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt


def test_a_failure_keeps_the_old_file_and_removes_the_new_one(tmp_path):
    path = tmp_path / "scores.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_share_an_unfinished_one(tmp_path):
    path, texts = tmp_path / "last", [str(number) * 100_000 for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda text: write_text(path, text), texts * 5))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_an_ordinary_file(tmp_path, umask):
    usual = os.umask(umask)
    try:
        (tmp_path / "ordinary").write_text("")
        write_text(tmp_path / "ours", "")
    finally:
        os.umask(usual)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_links_and_devices_are_kept(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"
    write_text("/dev/null", "text")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("place", ["absent/scores.json", "folder", "file/scores.json"])
def test_unwritable_path_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"'{tmp_path / place}'"):
        write_text(tmp_path / place, "text")


def test_a_full_disk_ends_in_one_line(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="page.html cannot be written in full .*: free disk space"):
            write_text(tmp_path / "page.html", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_checkpoint_on_a_full_disk_leaves_the_last_one(tmp_path, room):
    """Limits to the start of the file, its directory and its end; ulimit counts blocks of 1024 bytes."""
    path = tmp_path / "last.pt"
    path.write_text("the last one")
    cli = f'ulimit -f {room}; exec {sys.executable} -c "$0" {path} 100000'
    done = subprocess.run(["bash", "-c", cli, SAVE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "last.pt cannot be written in full" in line
    assert "free disk space" in line
    assert path.read_text() == "the last one"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    for name in ("last.partial", "last.pt.0123456789ab.partial", "last.pt"):
        (tmp_path / name).write_text("")
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_checking_a_path_leaves_no_files(tmp_path):
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / "old.json", "--output")
    check_writable(tmp_path / "new" / "deep" / "scores.json", "--output")
    check_writable(tmp_path / "new" / "results", "--output", folder=True)
    check_writable("/dev/null", "--output")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("file/scores.json", False),
        ("file/deep/scores.json", False),
        ("folder", False),
        ("file", True),
        ("file/results", True),
        ("x" * 300, False),
        ("x" * 300, True),
        ("loop", True),
    ],
)
def test_unwritable_output_names_its_option(tmp_path, place, folder):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"^\S+ cannot be written \(.+\): choose another path with --output$"):
        check_writable(tmp_path / place, "--output", folder=folder)
    assert sorted(tmp_path.iterdir()) == before


def test_text_that_utf8_cannot_encode_is_escaped(tmp_path):
    write_text(tmp_path / "a.json", json.dumps(["\udcff"], ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text()) == ["\udcff"]
