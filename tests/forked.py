"""`python run.py ...` in a fork of a process that has imported it already: a fresh state for each
command, without the seconds in which torch is imported."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parent.parent / "run.py"
FORKS = multiprocessing.get_context("forkserver")
# Nothing is computed there, so that a fork finds no threads. PyTorch imports its compiler when it
# makes the first optimizer.
FORKS.set_forkserver_preload(
    ["runner.commands.run", "runner.config.hydra_errors", "hydra", "torch._dynamo", "pytest"]
)


def run_forked(
    words: list[str], folder: Path, environment: dict[str, str], said: Path, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Exit code and output of `python run.py <words>` in `folder`.

    Args:
        said: a folder for what it prints.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds.
    """
    process = FORKS.Process(target=_main, args=(words, str(folder), environment, str(said)))
    process.start()
    process.join(timeout)
    out, err = ((said / name).read_text() for name in ("out", "err"))
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(words, timeout, out, err)
    return subprocess.CompletedProcess(words, process.exitcode, out, err)


def _main(words: list[str], folder: str, environment: dict[str, str], said: str) -> None:
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(RUN), *words]
    sys.path.insert(0, str(RUN.parent))
    runpy.run_path(str(RUN), run_name="__main__")
