"""Freed memory serves again."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from tools.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**26, dtype=torch.uint8).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(choice):
    """How many pages of a tensor of 64 MiB the system brought when it was made a tenth time."""
    found = subprocess.run([sys.executable, "-c", SCRIPT, choice], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is asked")
def test_a_large_tensor_gets_the_memory_that_the_last_one_left():
    assert pages("keep") < 0.5 * pages("leave")
