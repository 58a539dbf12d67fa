"""Seconds of a sweep's job beyond its own work, as a fork and as a process of its own."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.bench.figures import Figure
from runner.bench.start_up import smallest
from runner.paths import RUN_PY
from runner.records.find import all_records

SLOTS = 2
JOBS, PROCESSES = 16, 4  # jobs that are measured as forks, and as processes of their own


def job_overhead(name: str = "job_overhead_s") -> Figure:
    """Measure forks beside processes of their own; ratio = the seconds of the former / the latter.

    The seconds of a job are those of the slots, of which every job occupies one.
    """
    forks, processes = _overhead(JOBS, fork=True), _overhead(PROCESSES, fork=False)
    rival = "a process that imports torch for each job"
    return Figure(name, forks, "s", rival, processes, forks / processes)


def _overhead(jobs: int, fork: bool) -> float:
    """Return the seconds of each of `jobs` jobs beyond the `wall_s` of its record.

    They are the difference of two sweeps, of which one has `jobs` more: both contain the start of
    the command, its checks, and the imports of the fork server.
    """
    (short, own_short), (long, own_long) = (_sweep(n, fork) for n in (SLOTS, SLOTS + jobs))
    return (SLOTS * (long - short) - (own_long - own_short)) / jobs


def _sweep(jobs: int, fork: bool) -> tuple[float, float]:
    """Return the seconds of a sweep, and the sum of those that its runs passed.

    Raises:
        subprocess.CalledProcessError: a job fails.
    """
    seeds = ",".join(map(str, range(jobs)))
    with tempfile.TemporaryDirectory() as root:
        words = [*smallest(root), f"seed={seeds}", "hydra/launcher=gpu_queue"]
        words += [f"hydra.launcher.slots={SLOTS}", f"hydra.launcher.fork={str(fork).lower()}"]
        start = time.perf_counter()
        subprocess.run([sys.executable, str(RUN_PY), "-m", *words], check=True, capture_output=True)
        seconds = time.perf_counter() - start
        return seconds, sum(each["wall_s"] for each in all_records(Path(root, "results")))
