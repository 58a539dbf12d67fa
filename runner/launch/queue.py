"""The queue of one machine: a process for each job, as many at a time as there are slots. A failing job never affects the others.

A job is a command line in a process group of its own, its output goes to its own log. The queue holds no tensor and knows no method: of a running job it reads
only the status.json that the run keeps. If the queue itself is killed, its jobs end at a checkpoint (runner/launch/die_with_parent.py; where that cannot be
done, they go on, and the stage locks make it harmless); the same command again does what is left.
"""

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Iterator

from rich.console import Console

from runner.launch.jobs import Outcome, QueueJob, Running, shared_first, start
from runner.launch.monitor import Monitor
from runner.launch.slots import FreeMemory, Slot

POLL = 0.1  # seconds between two looks at the running jobs
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP: the terminal was closed


class Interrupted(Exception):
    """SIGTERM, Ctrl-C or a closed terminal: the jobs were asked to stop at a checkpoint and have ended."""

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
) -> list[Outcome]:
    """Run every job that is not done, those first whose stages others share; how each ended. What others finish meanwhile is not run again.

    Called from the main thread: a job ends with the thread that began it.

    Args:
        on_error: `continue` with the other jobs, or `stop`: begin no further one.
        grace_seconds: time that jobs get to checkpoint when the queue is asked to stop.
        min_free_gb: a card with less free memory (GiB) gets no further job.

    Raises:
        Interrupted: the queue was asked to stop; its jobs have ended.
    """
    pending, running, ended = shared_first([job for job in jobs if not job.done()]), list[Running](), list[Outcome]()
    with _stop_signals() as signals, Monitor(console, len(slots)) as monitor:
        enough_memory = FreeMemory(min_free_gb, monitor.say)
        try:
            while pending or running:
                if signals:
                    raise Interrupted(ended)
                if on_error == "stop" and any(outcome.failed for outcome in ended):
                    pending.clear()
                _begin(pending, running, ended, [slot for slot in _free(slots, running) if pending and enough_memory(slot)], monitor)
                time.sleep(POLL)
                for item in [r for r in running if r.process.poll() is not None]:
                    running.remove(item)
                    _note(item.finish(), ended, monitor)
                monitor.show(running, ended, len(pending))
        finally:
            _end(running, ended, grace_seconds, signals, monitor)
    return ended


def _begin(pending: list[QueueJob], running: list[Running], ended: list[Outcome], free: list[Slot], monitor: Monitor) -> None:
    """Fill the free slots."""
    for slot in free:
        job = _next(pending, running)
        if job is None:
            return
        pending.remove(job)
        try:
            running.append(start(job, slot))
        except OSError as error:  # no memory for another process, a folder that cannot be written
            _note(Outcome(job, 1, 0.0, False, f"could not be started: {error}"), ended, monitor)
        else:
            monitor.begun(running[-1])


def _next(pending: list[QueueJob], running: list[Running]) -> QueueJob | None:
    """The first job that would not wait for what a running one is about to compute: for no longer than until that is there."""
    coming = set[str]().union(*(item.job.claims() for item in running)) if pending else set[str]()
    for job in list(pending):
        if coming & job.makes and coming & job.claims():
            continue
        if not job.done():
            return job
        pending.remove(job)  # by another queue on the same directory
    return None


def _free(slots: list[Slot], running: list[Running]) -> list[Slot]:
    taken = [id(item.slot) for item in running]
    return [slot for slot in slots if id(slot) not in taken]


def _note(outcome: Outcome, ended: list[Outcome], monitor: Monitor) -> None:
    ended.append(outcome)
    monitor.ended(outcome)


def _end(running: list[Running], ended: list[Outcome], grace: float, signals: list[int], monitor: Monitor) -> None:
    """Ask the jobs to checkpoint and end; after the grace period, or when the queue is asked once more, they are killed."""
    before = min(1, len(signals))
    if running:
        monitor.say(f"stopping {len(running)} jobs at a checkpoint; once more to kill them")
    for item in running:
        item.kill(signal.SIGTERM)
    since = time.monotonic()
    while running:
        over = time.monotonic() - since > grace or len(signals) > before
        for item in list(running):
            if item.process.poll() is None and not over:
                continue
            how = "killed before it had written a checkpoint" if item.process.poll() is None else ""
            running.remove(item)
            _note(item.finish(how), ended, monitor)
        time.sleep(POLL / 10)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The signals that asked the queue to stop so far; what was set before is put back. Those that are ignored (nohup) stay ignored."""
    received: list[int] = []
    own = threading.current_thread() is threading.main_thread()
    numbers = [number for number in STOPPING if own and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summary(ended: list[Outcome], jobs: list[QueueJob]) -> str:
    """What is left: each failed job with how it ended, its log and the command that repeats it; "" when nothing is.

    Args:
        jobs: what there was to do.
    """
    failed = [outcome for outcome in ended if outcome.failed]
    if not failed:
        return ""
    names = {outcome.job.name for outcome in failed}
    left = sum(not job.done() and job.name not in names for job in jobs)
    others = f" and {left} more that are left" if left else ""
    lines = [f"{len(failed)} of {len(jobs)} jobs failed; the same command again runs only these{others}"]
    for outcome in failed:
        again = outcome.job.again or shlex.join(outcome.job.command)
        message = [f"  said:  {outcome.message}"] if outcome.message else []
        lines += [f"failed: {outcome.job.name}: {outcome.describe()}", *message, f"  log:   {outcome.job.log}", f"  again: {again}"]
    return "\n".join(lines)
