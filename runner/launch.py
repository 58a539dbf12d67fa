"""The queue of one machine: a process for each job, as many at a time as there are slots. One job's end, however violent, is no other's business.

A job is a command line in a process group of its own, its output goes to its own log. The queue holds no tensor and knows no method: it reads of a running job
only the status.json that the run keeps. Kill the queue itself and its jobs go on; the stage locks make that harmless, and the same command again waits for
them and does what is left.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from runner.slots import Options, Slot, has_room

POLL = 0.1  # seconds between two looks at the running jobs


@dataclass(frozen=True)
class Job:
    """A command and where its traces lie.

    Args:
        claims: what it would compute now; jobs whose claims overlap would wait for each other, so they do not run side by side while others can.
        again: the command line that a person repeats it by.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    done: Callable[[], bool]
    claims: Callable[[], set[str]] = lambda: set()
    again: str = ""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / "run.log"


@dataclass
class Running:
    """A job at work."""

    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    claims: set[str]
    begun: float = field(default_factory=time.time)

    def kill(self, number: int) -> None:
        """Signal the job's whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: exit code, or minus the signal that killed it."""

    job: Job
    code: int
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether something is left to do."""
        return self.code != 0

    def words(self) -> str:
        """For people."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return {0: "done", 2: "refused (exit 2)", 143: "stopped at a checkpoint"}.get(self.code, f"failed (exit {self.code})")


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the jobs were stopped at a checkpoint."""


def run_queue(jobs: list[Job], slots: list[Slot], options: Options, console: Console) -> list[Outcome]:
    """Run every job that is not done; how each ended. What others finished meanwhile is not run again.

    Raises:
        Interrupted: the queue was asked to stop; its jobs have ended.
    """
    pending, running, ended = [job for job in jobs if not job.done()], list[Running](), list[Outcome]()
    total = len(pending)
    with _stoppable() as asked, _board(console) as board:
        try:
            while pending or running:
                if asked():
                    raise Interrupted
                if options.on_error == "stop" and any(outcome.failed for outcome in ended):
                    pending.clear()
                _begin(pending, running, slots, options, console)
                time.sleep(POLL)
                for item in [r for r in running if r.process.poll() is not None]:
                    running.remove(item)
                    item.kill(signal.SIGKILL)  # whatever it left behind in its group
                    ended.append(Outcome(item.job, int(item.process.returncode), time.time() - item.begun))
                    console.print(_line(ended[-1]))
                board(running, len(ended), total)
        finally:
            _end(running, options.grace_seconds)
    return ended


def _begin(pending: list[Job], running: list[Running], slots: list[Slot], options: Options, console: Console) -> None:
    """Fill the free slots."""
    for slot in _free(slots, running):
        busy = set[str]().union(*(item.claims for item in running))
        job = next((job for job in pending if not busy & job.claims()), None)
        if job is None or not has_room(slot, options):
            continue
        pending.remove(job)
        if job.done():  # by another queue on the same directory
            continue
        running.append(_start(job, slot))
        console.print(f"begun: {job.name}")


def _free(slots: list[Slot], running: list[Running]) -> list[Slot]:
    taken = [id(item.slot) for item in running]
    return [slot for slot in slots if id(slot) not in taken]


def _start(job: Job, slot: Slot) -> Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    given = {word.partition("=")[0] for word in job.command}
    words = [word for word in slot.words if word.partition("=")[0] not in given]
    with job.log.open("ab") as file:
        process = subprocess.Popen(
            [*job.command, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **slot.environment}, start_new_session=True
        )
    return Running(job, slot, process, job.claims())


def _end(running: list[Running], grace: float) -> None:
    """Ask the jobs to checkpoint and end; after the grace period they are killed."""
    for item in running:
        item.kill(signal.SIGTERM)
    deadline = time.monotonic() + grace
    for item in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            item.process.wait(max(0.0, deadline - time.monotonic()))
        item.kill(signal.SIGKILL)
        item.process.wait()


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turns true on SIGTERM or Ctrl-C; what was set before is put back."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _board(console: Console) -> Iterator[Callable[[list[Running], int, int], None]]:
    """A live line for each running job on a terminal; elsewhere nothing, the lines of begin and end are enough."""
    if not console.is_terminal:
        yield lambda running, ended, total: None
        return
    with Live(console=console, transient=True, refresh_per_second=2) as live:

        def show(running: list[Running], ended: int, total: int) -> None:
            lines = [Text(progress_line(item.job.name, read_status(item.job.folder), time.time() - item.begun)) for item in running]
            live.update(Group(*lines, Text(f"{ended} of {total} ended, {len(running)} running")))

        yield show


def read_status(folder: Path) -> dict[str, Any]:
    """The run's own status.json; {} while there is none."""
    try:
        status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status


def progress_line(name: str, status: dict[str, Any], seconds: float) -> str:
    """Run, stage, epoch, accuracy, time that this stage has left."""
    words = [name, f"{seconds:.0f} s"]
    if status.get("status") == "running":
        words.append(str(status.get("stage", "")))
        if "epoch" in status:
            words += [f"epoch {status['epoch']}/{status['epochs']}", f"{status['accuracy']:.2f} %"]
            spent, left = status["updated"] - status["since"], status["epochs"] - status["epoch"]
            words.append(f"about {spent / max(1, status['epoch'] - status.get('first', 0)) * left:.0f} s left")
    return "  ".join(words)


def _line(outcome: Outcome) -> str:
    if outcome.failed:
        return f"{outcome.words()} after {outcome.seconds:.0f} s: {outcome.job.name}: {last_words(outcome.job.log)}"
    path = outcome.job.folder / "result.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    found = f": {record['accuracy']:.2f} % at density {record['density']:.3f}" if record.get("accuracy") is not None else ""
    return f"done after {outcome.seconds:.0f} s: {outcome.job.name}{found}"


def last_words(log: Path) -> str:
    """The last line that a job printed."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return lines[-1].strip() if lines else "(it printed nothing)"


def summary(ended: list[Outcome], begun: int) -> str:
    """What is left: each failed job with how it ended, its log and the command that repeats it; "" when nothing is.

    Args:
        begun: jobs that there were to do.
    """
    failed = [outcome for outcome in ended if outcome.failed]
    if not failed:
        return ""
    others = f" and {begun - len(ended)} that did not begin" if begun > len(ended) else ""
    lines = [f"{len(failed)} of {begun} jobs failed; the same command again runs only these{others}"]
    for outcome in failed:
        again = outcome.job.again or shlex.join(outcome.job.command)
        lines += [f"failed: {outcome.job.name}: {outcome.words()}", f"  log:   {outcome.job.log}", f"  again: {again}"]
    return "\n".join(lines)
