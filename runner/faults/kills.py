"""Kills and signals at random moments, then the same command until the run is done."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.lab import Command, start, typed
from runner.faults.trial import TRACEBACK, Ended, Trial, Verdict, classify, differences

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOST = 3  # kills before the run is left alone
QUEUE = ("hydra/launcher=gpu_queue", "hydra.launcher.slots=2", "hydra.launcher.grace_seconds=20")
SEEDS = (0, 1)
PATIENCE = 60.0  # seconds for the jobs of a killed queue to end


@dataclass(frozen=True)
class Kills:
    """A process is killed one to three times."""

    name: ClassVar[str] = "kills"
    title: ClassVar[str] = "kills and signals at random moments, every method"
    planned: ClassVar[int] = 300

    def trials(self, stock: Stock, rng: Random) -> Iterator[Trial]:
        """A trial for each kill."""
        order = list(stock.candidates)
        while True:
            rng.shuffle(order)
            for case in filter(stock.takes, order):
                yield from self._life(stock, case, rng)

    def _life(self, stock: Stock, case: Case, rng: Random) -> Iterator[Trial]:
        alone, home = stock.alone(case), stock.empty()
        killed: list[tuple[str, Ended]] = []
        for _ in range(rng.randint(1, MOST)):
            moment, number = rng.uniform(0, 1.1 * alone.seconds), rng.choice(SIGNALS)
            command = home.start(case)
            time.sleep(moment)
            alive = command.code is None
            command.send(number)
            if number == signal.SIGINT and rng.random() < 0.3:
                time.sleep(rng.uniform(0, 0.2))
                command.send(number)  # an impatient second Ctrl-C
            if alive:
                killed.append((f"{number.name} after {moment:.2f} s", command.wait()))
            else:
                command.wait()
        ended = home.start(case).wait()
        verdict, message = judged(ended, home, {alone.identity: alone.record})
        for what, own in killed:
            mine = interrupted(own)
            yield Trial(
                self.title,
                what,
                mine or verdict,
                typed(case.words),
                last_of_traceback(own.output) if mine else message,
            )
        discard(home)


@dataclass(frozen=True)
class QueueKills:
    """The queue or one of its jobs is killed."""

    name: ClassVar[str] = "queue"
    title: ClassVar[str] = "kills of a queue or of one of its jobs"
    planned: ClassVar[int] = 24

    def trials(self, stock: Stock, rng: Random) -> Iterator[Trial]:
        """A trial for each kill."""
        while True:
            case = stock.draw(rng)
            wanted = {a.identity: a.record for a in (stock.alone(case.seeded(s)) for s in SEEDS)}
            words = ["-m", *case.words, f"seed={','.join(map(str, SEEDS))}", *QUEUE]
            home = stock.empty()
            command = start([*words, *home.words], home.folder)
            time.sleep(rng.uniform(1, 12))
            number, jobs = rng.choice(SIGNALS), processes_in(home.folder, command)
            if target := rng.choice([None, *jobs]):
                what = f"{number.name} to a job"
                _signal(target, number)
            else:
                what = f"{number.name} to the queue"
                _signal(command.pid, number)
            first = command.wait()
            orphans = wait_for_jobs(home.folder, command)
            ended = Ended(None, "jobs outlived their queue") if orphans else again(words, home)
            verdict, message = judged(ended, home, wanted)
            mine = interrupted(first)
            yield Trial(
                self.title,
                what,
                mine or verdict,
                typed(words),
                last_of_traceback(first.output) if mine else message,
            )
            discard(home)


def again(words: list[str], home: Home) -> Ended:
    """The same command, to its end."""
    return start([*words, *home.words], home.folder).wait()


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
        _signal(pid, signal.SIGKILL)
    return left


def interrupted(ended: Ended) -> Verdict | None:
    """The verdict on a command that was killed, where its end itself is a fault."""
    if ended.code is None:
        return Verdict.HANG
    return Verdict.TRACEBACK if TRACEBACK in ended.output else None


def judged(ended: Ended, home: Home, wanted: dict[str, dict[str, Any]]) -> tuple[Verdict, str]:
    """The verdict on the last command of a trial, and its message or the fields that differ."""
    found = home.records()
    verdict = classify(ended, found == wanted)
    if verdict == Verdict.UNEQUAL:
        unlike = [
            f"{name}: {differences(found.get(name, {}), wanted.get(name, {}))}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        ]
        return verdict, " | ".join(unlike)
    if verdict == Verdict.TRACEBACK:
        return verdict, f"exit {ended.code}: {last_of_traceback(ended.output)}"
    return verdict, "" if verdict == Verdict.EQUAL else ended.last_line


def last_of_traceback(output: str) -> str:
    """The last line of a traceback: the error."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith((" ", "\t"))]
    return (errors or lines or ["(no output)"])[-1][:300]


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process; one that has ended is left alone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
