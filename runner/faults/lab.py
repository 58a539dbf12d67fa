"""Commands under test, each in a process and a session of its own.

A command runs in a fork of a process that has imported the runner, which saves the seconds in which
torch is imported, or as a program of its own.
"""

import contextlib
import multiprocessing
import os
import resource
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from runner.faults.trial import Ended

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ["runner.commands.run", "runner.config.hydra_errors", "runner.faults.lab", "hydra"]
READY_SECONDS = 60.0  # for a fork to begin
READ_SECONDS = 5.0  # for the rest of the output after the end
LIMIT = 300.0  # seconds for a command; a tiny run takes some
OWN = ("WINNOW_", "HYDRA_", "SLURM_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "WANDB_")


def forks() -> ForkServerContext:
    """The context in which commands are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: one thread, a wide and plain terminal, nothing of a cluster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OWN)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return {**kept, **plain, **more}


@dataclass(frozen=True)
class Terms:
    """Conditions of a command.

    Args:
        fsize: largest file in bytes that it can write (RLIMIT_FSIZE).
        stdout: file of its standard output instead of a log.
        stderr: likewise.
    """

    fsize: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    environment: Mapping[str, str] = field(default_factory=environment)


USUAL = Terms()


class Command:
    """A running command."""

    def __init__(
        self,
        process: "ForkServerProcess | subprocess.Popen[bytes]",
        log: Path,
        reader: threading.Thread | None = None,
    ) -> None:
        self.process, self.log, self.reader = process, log, reader
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def code(self) -> int | None:
        """Exit code, or minus the signal that ended it; None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode

    def send(self, number: int) -> None:
        """Send a signal to the command and to all its children, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # it has no session of its own yet
                os.kill(self.pid, number)

    def wait(self, limit: float = LIMIT) -> Ended:
        """How it ended; at the time limit it is killed."""
        if isinstance(self.process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(limit)
        else:
            self.process.join(limit)
        code = self.code
        if code is None:
            self.send(signal.SIGKILL)
            self.process.wait() if isinstance(
                self.process, subprocess.Popen
            ) else self.process.join()
        if self.reader is not None:
            self.reader.join(READ_SECONDS)
        output = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return Ended(code, output)


def start(
    words: Sequence[str], folder: Path, terms: Terms = USUAL, *, real: bool = False
) -> Command:
    """Start `python run.py <words>` in `folder`.

    Args:
        real: as a program of its own instead of a fork.
    """
    log = _log(folder)
    if not real:
        return _fork(command, (list(words),), folder, log, terms)
    return start_program([sys.executable, str(ROOT / "run.py"), *words], folder, terms)


def start_program(command: Sequence[str], folder: Path, terms: Terms = USUAL) -> Command:
    """Start a program in `folder`."""
    log = _log(folder)
    with (
        Path(terms.stdout or log).open("ab") as out,
        Path(terms.stderr or log).open("ab") as err,
    ):
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(terms.environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    return Command(process, log)


def call(function: Callable[..., None], arguments: tuple[Any, ...], folder: Path) -> Command:
    """Start a function of a module in a fork; what it prints is the command's output."""
    return _fork(function, arguments, folder, _log(folder), USUAL)


def run(words: Sequence[str], folder: Path, terms: Terms = USUAL, *, real: bool = False) -> Ended:
    """Run `python run.py <words>` in `folder` to its end."""
    return start(words, folder, terms, real=real).wait()


def typed(words: Sequence[str]) -> str:
    """The command line as a user types it."""
    return shlex.join(["python", "run.py", *words])


def _log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"log-{time.monotonic_ns()}"


def _fork(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    folder: Path,
    log: Path,
    terms: Terms,
) -> Command:
    reader = None
    if terms.fsize is not None:  # its output must not be cut, so it goes through a pipe
        pipe = log.with_name(f"{log.name}-pipe")
        os.mkfifo(pipe)
        reader = threading.Thread(target=_copy, args=(pipe, log), daemon=True)
        reader.start()
        terms = replace(terms, stdout=str(pipe), stderr=str(pipe))
    process = forks().Process(
        target=_child, args=(function, arguments, str(folder), str(log), terms)
    )
    process.start()
    until = time.monotonic() + READY_SECONDS
    while process.exitcode is None and not _ready(log).exists() and time.monotonic() < until:
        time.sleep(0.002)
    return Command(process, log, reader)


def _ready(log: Path) -> Path:
    """The file that says that the code under test begins; before it, a signal shows nothing."""
    return log.with_name(f"{log.name}-ready")


def _copy(pipe: Path, log: Path) -> None:
    log.write_bytes(pipe.read_bytes())


def _child(
    function: Callable[..., None], arguments: tuple[Any, ...], folder: str, log: str, terms: Terms
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    for stream, target in ((1, terms.stdout or log), (2, terms.stderr or log)):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(terms.environment)
    sys.path.insert(0, str(ROOT))
    _ready(Path(log)).touch()
    if terms.fsize is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (terms.fsize, terms.fsize))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)


def command(words: list[str]) -> None:
    """The command line interface in this process."""
    sys.argv = [str(ROOT / "run.py"), *words]
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
