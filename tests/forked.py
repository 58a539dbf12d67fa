"""Run Python scripts in forks of a process that has imported torch already.

The server is that of the queue (runner/launch/forks.py). Each script has a fresh state but does not
spend seconds on imports. tests/launch/test_forks.py compares forks with processes of their own.
"""

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from runner.launch.forks import Forks
from runner.launch.jobs import Process
from runner.paths import RUN_PY

# Variables that Python and libraries read when they start. A script for which one of them differs
# is a process of its own; the others are read when a command runs.
EARLY = ("PYTHON", "LD_", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "TORCH")


@cache
def server() -> Forks:
    """The fork server of this process; it starts with the first script."""
    forks = Forks(os.environ, late=lambda name: not name.startswith(EARLY), watched=())
    atexit.register(forks.end)
    return forks


def start_forked(
    script: Path,
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    out: int,
    err: int,
) -> Process:
    """Start `python <script> <words>` in `folder`, in a session of its own.

    Args:
        out: descriptor of the file for its standard output; it reads an empty standard input.
        err: likewise for errors.
    """
    server().wait()
    command = [sys.executable, str(script), *words]
    return server().start(command, environment, folder, out, err) or subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )


def start_unread(
    script: Path, words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Process:
    """Start `python <script> <words>` in `folder`, without its output."""
    with Path(os.devnull).open("wb") as nothing:
        out = nothing.fileno()
        return start_forked(script, words, folder, environment, out, out)


def run_forked(
    overrides: list[str], folder: Path, environment: dict[str, str], output: Path, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Exit code and output of `python run.py <overrides>` in `folder`.

    Args:
        output: a folder for the files of stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds.
    """
    with (output / "out").open("wb") as out, (output / "err").open("wb") as err:
        process = start_forked(RUN_PY, overrides, folder, environment, out.fileno(), err.fileno())
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    return subprocess.CompletedProcess(
        overrides, code, *((output / name).read_text() for name in ("out", "err"))
    )
