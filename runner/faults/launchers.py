"""Kills of commands of several processes: sweeps with each launcher, and torchrun."""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import ClassVar

from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.kills import SIGNALS, interrupted, judged, last_of_traceback
from runner.faults.kind import Part
from runner.faults.lab import ROOT, Command, start, start_program, typed
from runner.faults.trial import TRACEBACK, Ended, Left, Trial

SEEDS = (0, 1)
QUEUE = ("hydra/launcher=gpu_queue", "hydra.launcher.slots=2", "hydra.launcher.grace_seconds=20")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
PATIENCE = 60.0  # seconds for the jobs of a killed command to end
OWN_FRAME = re.compile(rf'File "{re.escape(str(ROOT))}/(?!\.venv/)')
# torchrun is started by `python -m`, the processes of a run by the path of run.py
OF_TORCHRUN = re.compile(r'torch/distributed/|^:\s*File "<frozen runpy>"')
BEGIN = 12.0  # seconds in which two jobs of a queue begin and end


@dataclass(frozen=True)
class QueueKills:
    """The queue or one of its jobs is killed."""

    name: ClassVar[str] = "queue"
    title: ClassVar[str] = "kills of a queue or of one of its jobs"
    planned: ClassVar[int] = 12

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each kill."""
        while True:
            case = stock.draw(rng)
            moment = rng.uniform(1, BEGIN)
            yield from sweep_killed(self.title, stock, case, QUEUE, moment, rng)


@dataclass(frozen=True)
class BasicKills:
    """A sweep without another launcher, which runs its jobs itself, is killed."""

    name: ClassVar[str] = "sweeps"
    title: ClassVar[str] = "kills of a sweep that runs its jobs itself (-m)"
    planned: ClassVar[int] = 24

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each kill."""
        while True:
            case = stock.draw(rng)
            seconds = sum(stock.alone(case.seeded(seed)).seconds for seed in SEEDS)
            yield from sweep_killed(self.title, stock, case, (), rng.uniform(0, seconds), rng)


def sweep_killed(
    title: str, stock: Stock, case: Case, options: Sequence[str], moment: float, rng: Random
) -> Iterator[Trial]:
    """The trial in which a sweep over two seeds is killed after `moment` seconds."""
    wanted = {a.identity: a.record for a in (stock.alone(case.seeded(s)) for s in SEEDS)}
    words = ["-m", *case.words, f"seed={','.join(map(str, SEEDS))}", *options]
    home = stock.empty()

    def begin() -> Command:
        return start([*words, *home.words], home.folder)

    yield killed_once(title, begin, home, wanted, moment, typed(words), rng)
    discard(home)


@dataclass(frozen=True)
class TorchrunKills:
    """torchrun or one of its two processes is killed: it has to end, and so has the other."""

    name: ClassVar[str] = "torchrun"
    title: ClassVar[str] = "kills of torchrun or of one of its two processes (gloo)"
    planned: ClassVar[int] = 12

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each kill."""
        case = stock.of_method(rng.choice(part.of(stock.methods)), rng)
        alone, started = stock.empty(), time.monotonic()
        ended = _torchrun(case, alone).wait()
        seconds, wanted = time.monotonic() - started, alone.records()
        if ended.code != 0 or len(wanted) != 1:
            raise RuntimeError(f"torchrun {' '.join(case.words)}: {ended.output}")
        while True:
            home = stock.empty()
            line = " ".join(["torchrun --nproc-per-node=2", *typed(case.words).split()[1:]])
            moment = rng.uniform(0.2, 1) * seconds
            yield killed_once(
                self.title, partial(_torchrun, case, home), home, wanted, moment, line, rng
            )
            discard(home)


def _torchrun(case: Case, home: Home) -> Command:
    run = [str(ROOT / "run.py"), *case.words, *home.words]
    return start_program([sys.executable, *TORCHRUN, *run], home.folder)


def killed_once(
    title: str,
    begin: Callable[[], Command],
    home: Home,
    wanted: Mapping[str, Left],
    moment: float,
    line: str,
    rng: Random,
) -> Trial:
    """The trial in which a command or one of its jobs is killed, and the command repeated."""
    command = begin()
    time.sleep(moment)
    number, jobs = rng.choice(SIGNALS), sorted(processes_in(home.folder, command))
    if target := rng.choice([None, *jobs]):
        what = f"{number.name} to a job"
        send(target, number)
    else:
        what = f"{number.name} to the command"
        send(command.pid, number)
    first = own_output(command.wait())
    orphans = wait_for_jobs(home.folder, command)
    ended = Ended(None, "jobs outlived the command") if orphans else begin().wait()
    verdict, message = judged(ended, home, wanted)
    mine = interrupted(first)
    shown = last_of_traceback(first.output) if mine else message
    return Trial(title, f"{what} after {moment:.1f} s", mine or verdict, line, shown)


def own_output(ended: Ended) -> Ended:
    """The end of a command without the tracebacks of torchrun itself.

    It prints them when a process of it fails or when it gets a signal, sometimes in several parts,
    and as any program does when Ctrl-C meets its imports. None of their frames is in this
    repository.
    """
    parts = ended.output.split(TRACEBACK)
    kept = [p for p in parts[1:] if OWN_FRAME.search(p) or not OF_TORCHRUN.search(p)]
    return Ended(ended.code, TRACEBACK.join([parts[0], *kept]))


def processes_in(folder: Path, command: Command) -> list[int]:
    """Jobs that write in a folder: processes that name it, without the command itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(entry.name) != command.pid and any(str(folder).encode() in word for word in words):
            found.append(int(entry.name))
    return found


def wait_for_jobs(folder: Path, command: Command) -> list[int]:
    """Jobs that still run after a while; they are killed."""
    until = time.monotonic() + PATIENCE
    while (left := processes_in(folder, command)) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:
        send(pid, signal.SIGKILL)
    return left


def send(pid: int, number: int) -> None:
    """Send a signal to a process; one that has ended is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
