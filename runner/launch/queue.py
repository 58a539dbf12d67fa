"""The queue of one machine: one process per job, at most as many at a time as there are slots.

A failing job never affects the others. Each job is a command line in its own process group and
writes to its own log. Jobs of a Python script are forks of a process that has imported what they
need (runner/launch/forks.py). The queue holds no tensor and is independent of the methods: of a
running job it reads only the run's status.json. If the queue itself is killed, its jobs stop at a
checkpoint (runner/launch/die_with_parent.py). Where that is not supported they continue, which the
stage locks make harmless. Repeating the command runs the remaining jobs.
"""

import contextlib
import os
import select
import shlex
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from runner.engine.signals import StopRequests
from runner.launch.forks import SOURCES, Forks
from runner.launch.jobs import (
    Outcome,
    QueueJob,
    Running,
    environment_of,
    shared_first,
    start,
)
from runner.launch.monitor import Monitor
from runner.launch.packing import Packing, Placement, Waiting
from runner.launch.slots import FreeMemory, Slot
from runner.own import own_files

POLL = 0.1  # seconds between two checks of the running jobs, at most
FEW = 2  # jobs for which a fork server's own imports are worth their time
STOPPING = tuple(  # SIGHUP: the terminal was closed; Windows has no such signal
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(Exception):
    """SIGTERM, Ctrl-C or a closed terminal stopped the queue, and its jobs have ended.

    The jobs had the grace period to write a checkpoint.
    """

    def __init__(self, ended: list[Outcome]) -> None:
        super().__init__()
        self.ended = ended


def run_queue(
    jobs: list[QueueJob],
    slots: list[Slot],
    console: Console,
    *,
    on_error: str = "continue",
    grace_seconds: float = 60.0,
    min_free_gb: float = 0.0,
    fork: bool = True,
    requeue: int = 0,
) -> list[Outcome]:
    """Run every job that is not done; return their outcomes.

    A job that another process finishes in the meantime is not run again. Call this from the main
    thread: a job ends with the thread that started it. Options as for `GpuQueue`.

    Raises:
        Interrupted: the queue received a stop signal, and its jobs have ended.
    """
    todo = _in_order([job for job in jobs if not job.done()])
    with (
        _stop_requests() as requests,
        Monitor(console, _at_a_time(todo, slots)) as monitor,
        _forks(todo if fork else [], slots, monitor) as forks,
    ):
        memory = FreeMemory(min_free_gb, monitor.say)
        queue = _Queue(todo, slots, monitor, memory, forks, requeue)
        try:
            while queue.pending or queue.running:
                if requests.count:
                    raise Interrupted(queue.ended)
                if on_error == "stop" and any(outcome.failed for outcome in queue.ended):
                    queue.pending.clear()
                queue.start_jobs()
                wait_for_an_end(queue.running, POLL)
                queue.collect()
                monitor.show(queue.running, queue.ended, len(queue.pending))
        finally:
            queue.stop(grace_seconds, requests)
    return queue.ended


def _in_order(jobs: list[QueueJob]) -> list[QueueJob]:
    """The jobs in the order in which they start: large ones, then those with shared stages."""
    return sorted(shared_first(jobs), key=lambda job: -job.size)


def _at_a_time(jobs: Sequence[QueueJob], slots: Sequence[Slot]) -> int:
    """About how many of the jobs run at a time."""
    return max(1, len(slots) * len(jobs) // max(1, sum(job.size for job in jobs)))


@contextlib.contextmanager
def _forks(jobs: Sequence[QueueJob], slots: list[Slot], monitor: Monitor) -> Iterator[Forks | None]:
    """A fork server for the jobs in these slots; None for less than `FEW` that it can start."""
    if sum(job.forkable for job in jobs) < FEW:
        yield None
        return
    watched = [*SOURCES, *own_files()]
    with Forks(environment_of(slots[0]), monitor.say, watched=watched) as forks:
        yield forks


def wait_for_an_end(running: Sequence[Running], seconds: float) -> None:
    """Wait until a job has ended, for `seconds` at most."""
    numbers: list[int] = []
    try:
        for item in running:
            numbers.append(os.pidfd_open(item.process.pid))  # Linux
        select.select(numbers, [], [], seconds)
    except (AttributeError, OSError, ValueError):  # ValueError: more descriptors than it can watch
        time.sleep(seconds)
    finally:
        for number in numbers:
            os.close(number)


@dataclass
class _Queue:
    """The jobs of a queue by state, and the slots in which they run."""

    pending: list[QueueJob]
    slots: list[Slot]
    monitor: Monitor
    enough_memory: FreeMemory
    forks: Forks | None
    requeue: int = 0
    running: list[Running] = field(default_factory=list)
    ended: list[Outcome] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)  # attempts that a signal ended, by name

    def __post_init__(self) -> None:
        self.packing = Packing([slot.gpu for slot in self.slots])

    def start_jobs(self) -> None:
        """Start pending jobs in the free slots."""
        while found := self._next():
            job = next(job for job in self.pending if job.name == found.name)
            if self.forks and job.forkable and not self.forks.ready():
                return
            self.pending.remove(job)
            try:
                slots = [self.slots[place] for place in found.slots]
                item = start(job, slots, self.forks, found.slots)
            except OSError as error:  # e.g. no memory for a process, or a read-only folder
                self._end(Outcome(job, 1, 0.0, False, f"could not be started: {error}"))
            else:
                self.running.append(item)
                self.monitor.started(item)

    def _next(self) -> Placement | None:
        """The next job to start, and its slots."""
        taken = {place for item in self.running for place in item.places}
        free = [place for place in range(len(self.slots)) if place not in taken]
        if not self.pending or not free:
            return None
        lacking = [place for place in free if not self.enough_memory(self.slots[place])]
        if len(lacking) == len(free):
            return None
        waiting = [Waiting(job.name, job.size) for job in self._startable()]
        return self.packing.next(waiting, [item.places for item in self.running], lacking)

    def _startable(self) -> list[QueueJob]:
        """The pending jobs that need no stage which a running job is about to compute.

        Only the first of each size can be next, and only if it is smaller than those before it.
        Jobs that are already done are removed from `pending`.
        """
        coming = set[str]().union(*(item.job.claims() for item in self.running))
        found = list[QueueJob]()
        for job in list(self.pending):
            if found and job.size >= found[-1].size:
                continue
            if coming & job.makes and coming & job.claims():
                continue
            if job.done():
                self.pending.remove(job)  # by another queue on the same directory
                continue
            found.append(job)
            if job.size == 1:
                break
        return found

    def collect(self) -> None:
        """Move the jobs whose processes have ended from `running` to `ended`, or queue them again.

        A job that a signal has killed is queued again at most `requeue` times.
        """
        for item in [item for item in self.running if item.process.poll() is not None]:
            self.running.remove(item)
            outcome = item.finish()
            self.killed[item.job.name] += outcome.code < 0
            if outcome.code < 0 and self.killed[item.job.name] <= self.requeue:
                self.pending.insert(0, item.job)
                self.monitor.say(f"queued again: {item.job.name}: {outcome.describe()}")
            else:
                self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self.ended.append(outcome)
        self.monitor.ended(outcome)

    def stop(self, grace: float, requests: StopRequests) -> None:
        """Send SIGTERM to the running jobs, so that they write a checkpoint and end.

        Jobs still running after the grace period, or after a second request to stop, are killed.
        """
        before = min(1, requests.count)
        if self.running:
            count = len(self.running)
            self.monitor.say(
                f"stopping {count} jobs at a checkpoint; repeat the signal to kill them"
            )
        for item in self.running:
            item.kill(signal.SIGTERM)
        since = time.monotonic()
        while self.running:
            over = time.monotonic() - since > grace or requests.count > before
            for item in list(self.running):
                alive = item.process.poll() is None
                if alive and not over:
                    continue
                self.running.remove(item)
                how = "killed before it wrote a checkpoint" if alive else ""
                self._end(item.finish(how))
            time.sleep(POLL / 10)


@contextlib.contextmanager
def _stop_requests() -> Iterator[StopRequests]:
    """Count the requests to stop that the queue receives; restore the former handlers at the end.

    Signals that are ignored (nohup) stay ignored.
    """
    requests = StopRequests()
    own = threading.current_thread() is threading.main_thread()
    numbers = [
        number for number in STOPPING if own and signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, lambda *_: requests.add()) for number in numbers}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(ended: list[Outcome], jobs: list[QueueJob]) -> str:
    """A text with each failed job, its outcome, its log and the command that repeats it.

    Args:
        jobs: all jobs that were to be run.

    Returns:
        The text; "" if no job failed.
    """
    failed = [outcome for outcome in ended if outcome.failed]
    if not failed:
        return ""
    names = {outcome.job.name for outcome in failed}
    left = sum(not job.done() and job.name not in names for job in jobs)
    others = f" and {left} more that have not run" if left else ""
    lines = [
        f"{len(failed)} of {len(jobs)} jobs failed; repeat the command to run only these{others}"
    ]
    for outcome in failed:
        again = outcome.job.again or shlex.join(outcome.job.command)
        message = [f"  output: {outcome.message}"] if outcome.message else []
        lines += [
            f"failed: {outcome.job.name}: {outcome.describe()}",
            *message,
            f"  log:    {outcome.job.log}",
            f"  repeat: {again}",
        ]
    return "\n".join(lines)
