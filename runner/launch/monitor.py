"""Progress of a queue.

On a terminal: a live line for each running job and one for the whole queue. Elsewhere: a plain line
when a job starts or ends.
"""

import contextlib
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from runner.display.progress import results
from runner.launch.jobs import Outcome, Running, read_json, read_status
from runner.spec.findings import DIVERGED, DIVERGED_STAGE
from runner.spec.record import RunStatus

SECONDS_BETWEEN_LOOKS = 0.5


class Monitor:
    """Prints the progress of a queue; a context manager that restores the terminal at its end.

    Errors in writing to the terminal, e.g. after it was closed, are ignored.
    """

    def __init__(self, console: Console, slots: int) -> None:
        self.console, self.slots = console, slots
        self.live: Live | None = None
        if console.is_terminal:
            self.live = Live(console=console, auto_refresh=False, transient=True)
        self.looked = 0.0
        self.paces: dict[str, Pace] = {}

    def __enter__(self) -> "Monitor":
        with contextlib.suppress(OSError):
            if self.live:
                self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            if self.live:
                self.live.stop()

    def say(self, text: str) -> None:
        """Print a line without wrapping, so that paths can be copied."""
        with contextlib.suppress(OSError):
            self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def started(self, item: Running) -> None:
        """Print that a job has started."""
        several = len(item.places) > 1
        where = f" on {'GPUs' if several else 'GPU'} {item.slot.gpu}" if item.slot.gpu else ""
        where += f" as {len(item.places)} processes" if several else ""
        self.say(f"started: {item.job.name}{where}")

    def ended(self, outcome: Outcome) -> None:
        """Print how a job ended."""
        if outcome.failed:
            what = f"{outcome.describe()} after {span(outcome.seconds)}"
            self.say(f"{what}: {outcome.job.name}: {outcome.message}")
            return
        record = read_json(outcome.job.folder / "result.json")
        known = record.get("accuracy") is not None and record.get("density") is not None
        found = f": {record['accuracy']:.2f} % at density {record['density']:.3f}" if known else ""
        if record.get("status") == DIVERGED:
            found = f": {DIVERGED} in stage {record['report'][DIVERGED_STAGE]}"
        self.say(f"done after {span(outcome.seconds)}: {outcome.job.name}{found}")

    def show(self, running: list[Running], ended: list[Outcome], waiting: int) -> None:
        """Update the live lines, at most twice a second."""
        if self.live and time.monotonic() - self.looked >= SECONDS_BETWEEN_LOOKS:
            self.looked = time.monotonic()
            lines = self.lines(running, ended, waiting, time.time())
            with contextlib.suppress(OSError):
                self.live.update(Group(*map(Text, lines)), refresh=True)

    def lines(
        self, running: list[Running], ended: list[Outcome], waiting: int, now: float
    ) -> list[str]:
        """One line for each running job, and one for the whole queue."""
        found = []
        for item in running:
            status = read_status(item.job.folder)
            if status.get("updated", 0.0) < item.started - 1:  # from an earlier attempt
                status = {}
            pace = self.paces.setdefault(item.job.name, Pace())
            found.append(job_line(item.job.name, now - item.started, status, pace.left(status)))
        good = [outcome.seconds for outcome in ended if not outcome.failed]
        left = time_left(good, [now - item.started for item in running], waiting, self.slots)
        failed = len(ended) - len(good)
        counts = f"{len(good)} done, {len(running)} running, {failed} failed, {waiting} to do"
        return [*found, counts if left is None else f"{counts}, about {span(left)} left"]


class Pace:
    """Speed of a job's stage, from the epochs observed so far.

    The epochs before a resume do not count: they were not computed in this attempt.
    """

    def __init__(self) -> None:
        self.first: RunStatus = {}

    def left(self, status: RunStatus) -> float | None:
        """Seconds to the end of the stage; None before two of its epochs were observed."""
        if "epoch" not in status:
            return None
        if (self.first.get("stage"), self.first.get("since")) != (status["stage"], status["since"]):
            self.first = status
        epochs = status["epoch"] - self.first["epoch"]
        if epochs < 1:
            return None
        seconds = status["updated"] - self.first["updated"]
        return seconds / epochs * (status["epochs"] - status["epoch"])


def job_line(name: str, seconds: float, status: RunStatus, left: float | None) -> str:
    """One line: run, elapsed time, stage, epoch, loss, accuracy, remaining time of the stage."""
    parts = [name, span(seconds), str(status.get("stage", "starting"))]
    if "epoch" in status:
        parts.append(f"epoch {status['epoch']}/{status['epochs']}")
    if measured := results(status):
        parts.append(measured)
    if left is not None:
        parts.append(f"about {span(left)} left in this stage")
    return "  ".join(parts)


def time_left(ended: list[float], running: list[float], waiting: int, slots: int) -> float | None:
    """Estimate the seconds until all jobs are done.

    The estimate assumes that each job takes the mean time of the finished ones. It is None while no
    job has finished.

    Args:
        ended: seconds that each finished job took.
        running: seconds since each running job started.
        waiting: jobs that have not started.
    """
    if not ended:
        return None
    each = sum(ended) / len(ended)
    rest = [max(0.0, each - seconds) for seconds in running]
    return max([(waiting * each + sum(rest)) / slots, *rest])


def span(seconds: float) -> str:
    """A time span as text in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
