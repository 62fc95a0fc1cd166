"""The scripts set how the threads of OpenMP wait before they import torch, which loads OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    path
    for path in (*ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py"))
    if "cli.run(main)" in path.read_text()
]
REPORT = """
import importlib.abc, os, runpy, sys

class Recorder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("policy:", os.environ.get("OMP_WAIT_POLICY"))
            raise SystemExit  # nothing after this import is of interest

sys.meta_path.insert(0, Recorder())
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="imported")
"""


def policy(script: Path, **environment: str) -> str:
    """What a script prints about OMP_WAIT_POLICY when it first imports torch."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", REPORT, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={**inherited, **environment}
    )
    return done.stdout.strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_script_sets_the_policy_before_it_imports_torch(script):
    assert policy(script) in ("policy: passive", "")  # "": the script does not need torch


def test_policy_of_the_user_is_kept():
    assert policy(ROOT / "train.py", OMP_WAIT_POLICY="active") == "policy: active"
