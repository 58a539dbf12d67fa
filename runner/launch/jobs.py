"""A job of the queue as a process: its command, log, start and outcome.

This module does not import torch.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.launch.forked import Forked
from runner.launch.forks import Forks, is_script
from runner.launch.slots import Slot, joined
from runner.launch.team import kill_members, new_name, team_command
from runner.spec.record import RunStatus
from runner.torchrun import without_torchrun

STOPPED = 143  # exit code of a run that wrote a checkpoint on a stop signal
DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
EXITS = {0: "done", 2: "refused (exit 2)", 130: "interrupted", STOPPED: "stopped at a checkpoint"}
TAIL = 20_000  # bytes at the end of a log that are searched for its last message

Process = subprocess.Popen[bytes] | Forked  # a job's, as a child of the queue


@dataclass(frozen=True)
class QueueJob:
    """A command and the folder of its output.

    Args:
        done: whether the job's result exists.
        makes: keys of its stages, and KEY@EPOCH for rewinding points. The queue does not
            run two jobs at the same time that would compute the same key.
        there: whether one of these keys is in the cache.
        again: the command line with which a user repeats the job.
        model: the name of the run's model; empty if it is no run.
        size: how many slots it needs. Several: it is a team of as many processes.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    done: Callable[[], bool]
    makes: frozenset[str] = frozenset()
    there: Callable[[str], bool] = lambda key: False
    again: str = ""
    model: str = ""
    size: int = 1

    @property
    def forkable(self) -> bool:
        """Whether a fork server can start it; torchrun starts the processes of a team."""
        return self.size == 1 and is_script(self.command)

    @property
    def log(self) -> Path:
        """The log file with the output of every attempt, each after a dated line."""
        return self.folder / "run.log"

    def claims(self) -> set[str]:
        """The keys of `makes` that are not in the cache, so that the job would compute them."""
        return {key for key in self.makes if not self.there(key)}


@dataclass
class Running:
    """A running job.

    Args:
        slot: where it runs; of a team, all of its slots joined.
        offset: where this attempt begins in the log, in bytes.
        team: the name of its team; empty if it is one process.
        places: the numbers of its slots in the queue.
    """

    job: QueueJob
    slot: Slot
    process: Process
    offset: int
    team: str = ""
    places: tuple[int, ...] = ()
    started: float = field(default_factory=time.time)

    def kill(self, number: int) -> None:
        """Send signal `number` to the job's process group; torchrun passes it on to its team.

        SIGKILL reaches the team directly.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
            os.killpg(self.process.pid, number)
        if self.team and number == signal.SIGKILL:
            kill_members(self.team)

    def finish(self, how: str = "") -> "Outcome":
        """Kill the rest of the process group and return the job's outcome."""
        self.kill(signal.SIGKILL)
        code, seconds = self.process.wait(), time.time() - self.started
        message = last_message(self.job.log, self.offset)
        return Outcome(self.job, code, seconds, self.job.done(), how, message)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended.

    Args:
        code: exit code, or minus the signal that killed it.
        recorded: whether the job's result exists.
        how: description of the end where the exit code does not show it.
        message: the last message in its log (`last_message`).
    """

    job: QueueJob
    code: int
    seconds: float
    recorded: bool
    how: str = ""
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether the attempt ended with an error or without a result."""
        return self.code != 0 or not self.recorded

    @property
    def stopped(self) -> bool:
        """Whether a stop signal ended the attempt."""
        return not self.how and self.code in (STOPPED, -signal.SIGTERM)

    def describe(self) -> str:
        """How the attempt ended, as text."""
        if self.how:
            return self.how
        if self.code < 0:
            number = -self.code
            known = number in set(signal.Signals)
            name = signal.Signals(number).name if known else f"signal {number}"
            hint = " (out of memory? see the kernel's log)" if number == signal.SIGKILL else ""
            return f"killed by {name}{hint}"
        if self.code == 0 and not self.recorded:
            return "ended with exit code 0, but there is no result.json"
        return EXITS.get(self.code, f"failed (exit {self.code})")


def start(
    job: QueueJob, slots: Sequence[Slot], forks: Forks | None = None, places: tuple[int, ...] = ()
) -> Running:
    """Start the job's process, or torchrun for a job of several slots.

    The process leads its own session, so Ctrl-C in the terminal reaches only the queue, which then
    stops its jobs.

    Args:
        forks: starts the process, if it can.
        places: the numbers of the slots in the queue.

    Raises:
        OSError: the process or the log could not be created.
    """
    slot, own = joined(slots), {word.partition("=")[0] for word in job.command}
    overrides = [override for override in slot.overrides if override.partition("=")[0] not in own]
    command, environment = [*job.command, *overrides], environment_of(slot)
    team = new_name() if len(slots) > 1 else ""
    if team:
        command = team_command(command, len(slots), team)
    offset = begin_log(job.log, job.again or shlex.join(job.command))
    with job.log.open("ab") as file:
        number, forked = file.fileno(), None
        if forks is not None and job.forkable:
            forked = forks.start(command, environment, Path.cwd(), number, number)
        process = forked or _spawned(command, environment, number)
        return Running(job, slot, process, offset, team, places)


def environment_of(slot: Slot) -> dict[str, str]:
    """The environment of a job in a slot."""
    return {**without_torchrun(os.environ), **slot.environment}


def _spawned(
    command: list[str], environment: dict[str, str], output: int
) -> subprocess.Popen[bytes]:
    wrapper: list[str] = []
    if sys.platform.startswith("linux"):
        wrapper = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid())]
    return subprocess.Popen(
        [*wrapper, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


def begin_log(log: Path, command: str) -> int:
    """Append a dated line for a new attempt to the log.

    Returns:
        The offset in bytes at which the output of the attempt begins.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(
            f"==== {datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z} {command}\n".encode(
                errors="backslashreplace"
            )
        )
        return file.tell()


def last_message(log: Path, offset: int) -> str:
    """The last line of an attempt that reports an error or a stop, else its last line."""
    if not log.is_file():
        return "(it printed nothing)"
    with log.open("rb") as file:
        file.seek(max(offset, file.seek(0, os.SEEK_END) - TAIL))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reports = [line for line in lines if line.startswith(("failed:", "error:", "stopped:"))]
    return (reports or lines or ["(it printed nothing)"])[-1][:300]


def shared_first(jobs: list[QueueJob]) -> list[QueueJob]:
    """Sort the jobs so that stages shared by most jobs are computed first; the sort is stable.

    A rewinding point of a shared stage counts as much as the stage itself. If a job without that
    rewinding point computed the stage, it would have to be trained to that point again.
    """
    claims = {id(job): job.claims() for job in jobs}
    uses = Counter(item for items in claims.values() for item in items)

    def others(job: QueueJob) -> int:
        """The number of other jobs' uses of the keys that the job would compute."""
        keys = (item.partition("@")[0] for item in claims[id(job)])
        return sum(uses[key] - 1 for key in keys if key in uses)

    return sorted(jobs, key=lambda job: -others(job))


def read_status(folder: Path) -> RunStatus:
    """The status of a job that runs; {} if it has none yet."""
    found: Any = read_json(folder / "status.json")
    status: RunStatus = found
    return status


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object that another process writes; {} if there is none. Jobs can write any."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
