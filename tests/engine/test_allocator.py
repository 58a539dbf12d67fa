"""The allocator keeps what a training step frees, and returns it when a stage ends."""

import json
import os
import subprocess
import sys

import pytest

from runner.engine.allocator import TUNED

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses glibc and /proc")
BLOCKS, BLOCK = 40, 8 * 2**20  # activations of a step; 320 MiB
PROGRAM = f"""
import json, re, resource
from pathlib import Path
from runner.engine import allocator

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step = [bytes([1]) * {BLOCK} for _ in range({BLOCKS})]
    del step
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

usual = [faults_of_a_step() for _ in range(3)][-1]
possible = allocator.keep_freed_memory()
kept = [faults_of_a_step() for _ in range(3)][-1]
held = resident()
allocator.return_freed_memory()
print(json.dumps([possible, usual, kept, held - resident()]))
"""


def measured(**variables: str) -> tuple[bool, int, int, int]:
    """Whether memory can be kept, page faults of a step before and after, bytes returned."""
    environment = {name: value for name, value in os.environ.items() if name not in TUNED}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    possible, usual, kept, returned = json.loads(done.stdout)
    return possible, usual, kept, returned


def test_a_step_uses_the_memory_of_the_one_before_and_gives_it_back_at_the_end() -> None:
    possible, usual, kept, returned = measured()
    if not possible:
        pytest.skip("the C library is not glibc")
    assert usual > BLOCKS  # each block, or the whole heap, is taken from the system anew
    assert kept < BLOCKS / 10  # 320 MiB have 81,920 pages of 4 KiB, or 160 of 2 MiB
    assert returned > 0.9 * BLOCKS * BLOCK


def test_an_allocator_that_the_user_has_tuned_is_left_alone() -> None:
    assert not measured(MALLOC_TRIM_THRESHOLD_="65536")[0]
