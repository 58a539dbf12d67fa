"""A job of the queue as a process: its command, its log, how it begins and what its end means. No torch here."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.launch.slots import Slot

STOPPED = 143  # exit code of a run that was asked to stop and has written a checkpoint
DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
TAIL = 20_000  # bytes of a log that are read for its last message


@dataclass(frozen=True)
class QueueJob:
    """A command and where its traces lie.

    Args:
        done: whether its result is there.
        makes: keys of its stages, and KEY@EPOCH for rewinding points. Jobs that would wait for each other's do not run side by side while others can.
        there: whether one of these is in the cache.
        again: the command line that a person repeats it by.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    done: Callable[[], bool]
    makes: frozenset[str] = frozenset()
    there: Callable[[str], bool] = lambda key: False
    again: str = ""

    @property
    def log(self) -> Path:
        """Where its output goes: that of every attempt, each after a dated line."""
        return self.folder / "run.log"

    def claims(self) -> set[str]:
        """What of these it would compute now."""
        return {key for key in self.makes if not self.there(key)}


@dataclass
class Running:
    """A job at work."""

    job: QueueJob
    slot: Slot
    process: subprocess.Popen[bytes]
    offset: int  # of this attempt in the log
    begun: float = field(default_factory=time.time)

    def kill(self, number: int) -> None:
        """Signal the job's whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(self.process.pid, number)

    def finish(self, how: str = "") -> "Outcome":
        """Kill what the process left in its group and return how it ended."""
        self.kill(signal.SIGKILL)
        code = self.process.wait()
        return Outcome(self.job, code, time.time() - self.begun, self.job.done(), how, last_message(self.job.log, self.offset))


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended.

    Args:
        code: exit code, or minus the signal that killed it.
        recorded: whether its result is there.
        how: in words, where the code does not tell.
        message: the last that it printed (`last_message`).
    """

    job: QueueJob
    code: int
    seconds: float
    recorded: bool
    how: str = ""
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether something is left to do."""
        return self.code != 0 or not self.recorded

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was asked to."""
        return not self.how and self.code in (STOPPED, -signal.SIGTERM)

    def describe(self) -> str:
        """How it ended, for people."""
        if self.how:
            return self.how
        if self.code < 0:
            name = signal.Signals(-self.code).name if -self.code in set(signal.Signals) else f"signal {-self.code}"
            return f"killed by {name}" + (" (out of memory? the kernel's log says)" if -self.code == signal.SIGKILL else "")
        if self.code == 0:
            return "done" if self.recorded else "ended with exit code 0, but there is no result.json"
        return {2: "refused (exit 2)", STOPPED: "stopped at a checkpoint"}.get(self.code, f"failed (exit {self.code})")


def start(job: QueueJob, slot: Slot) -> Running:
    """The job's process, the leader of a session of its own: Ctrl-C in the terminal reaches the queue alone, which passes it on.

    Raises:
        OSError: no process, or no log, could be made.
    """
    own = {word.partition("=")[0] for word in job.command}
    overrides = [override for override in slot.overrides if override.partition("=")[0] not in own]
    offset = begin_log(job.log, job.again or shlex.join(job.command))
    wrapper = (sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid())) if sys.platform.startswith("linux") else ()
    environment = {**os.environ, **slot.environment}
    with job.log.open("ab") as file:
        process = subprocess.Popen(
            [*wrapper, *job.command, *overrides], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    return Running(job, slot, process, offset)


def begin_log(log: Path, command: str) -> int:
    """Write a dated line for a new attempt after the earlier ones; where in the log the attempt's own output begins."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"==== {datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z} {command}\n".encode())
        return file.tell()


def last_message(log: Path, offset: int) -> str:
    """What an attempt printed about its failure: its last line that names one, else its last line."""
    if not log.is_file():
        return "(it printed nothing)"
    with log.open("rb") as file:
        file.seek(max(offset, file.seek(0, os.SEEK_END) - TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("failed:", "error:", "stopped:"))]
    return (named or lines or ["(it printed nothing)"])[-1][:300]


def shared_first(jobs: list[QueueJob]) -> list[QueueJob]:
    """The jobs in an order that makes first what most others wait for; otherwise as they came.

    A rewinding point of a shared stage counts as much as the stage: made by a job that keeps none, it would have to be trained to that point once more.
    """
    claims = {id(job): job.claims() for job in jobs}
    uses = Counter(item for items in claims.values() for item in items)
    return sorted(jobs, key=lambda job: -sum(uses[item.partition("@")[0]] - 1 for item in claims[id(job)] if item.partition("@")[0] in uses))


def read_json(path: Path) -> dict[str, Any]:
    """What another process writes, e.g. a run's status.json; {} while there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
