"""Run `python run.py ...` in a fork of a process that has imported torch already.

Each command has a fresh state but does not spend seconds on the import of torch.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parent.parent / "run.py"
FORKS = multiprocessing.get_context("forkserver")
# The server computes nothing, so that it has no threads. The last two modules are for tests on the
# emulated device: PyTorch imports the first of them with the first tensor of a subclass.
FORKS.set_forkserver_preload(
    ["runner.commands.run", "runner.config.hydra_errors", "hydra", "torch.distributed.tensor"]
    + ["pytest"]
)


def run_forked(
    overrides: list[str], folder: Path, environment: dict[str, str], output: Path, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Exit code and output of `python run.py <overrides>` in `folder`.

    Args:
        output: a folder for the files of stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds.
    """
    process = FORKS.Process(target=_main, args=(overrides, str(folder), environment, str(output)))
    process.start()
    process.join(timeout)
    out, err = ((output / name).read_text() for name in ("out", "err"))
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(overrides, timeout, out, err)
    return subprocess.CompletedProcess(overrides, process.exitcode, out, err)


def _main(overrides: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    for name, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(RUN), *overrides]
    sys.path.insert(0, str(RUN.parent))
    runpy.run_path(str(RUN), run_name="__main__")
