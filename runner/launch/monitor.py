"""What people see of a queue: on a terminal a live line for each running job and one for all; elsewhere a plain line when a job begins or ends."""

import contextlib
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from runner.launch.jobs import Outcome, Running, read_json

SECONDS_BETWEEN_LOOKS = 0.5


class Monitor:
    """Says what happens. A context manager: at its end the terminal is given back. A terminal that is gone stops no work."""

    def __init__(self, console: Console, slots: int) -> None:
        self.console, self.slots = console, slots
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self.looked = 0.0
        self.paces: dict[str, Pace] = {}

    def __enter__(self) -> "Monitor":
        with contextlib.suppress(OSError):
            if self.live:
                self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            if self.live:
                self.live.stop()

    def say(self, text: str) -> None:
        """A line, whole: a path that is cut cannot be copied."""
        with contextlib.suppress(OSError):
            self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def begun(self, item: Running) -> None:
        """A job has its slot."""
        self.say(f"begun: {item.job.name}" + (f" on GPU {item.slot.gpu}" if item.slot.gpu else ""))

    def ended(self, outcome: Outcome) -> None:
        """How it ended."""
        if outcome.failed:
            self.say(f"{outcome.describe()} after {span(outcome.seconds)}: {outcome.job.name}: {outcome.message}")
            return
        record = read_json(outcome.job.folder / "result.json")
        known = record.get("accuracy") is not None and record.get("density") is not None
        found = f": {record['accuracy']:.2f} % at density {record['density']:.3f}" if known else ""
        self.say(f"done after {span(outcome.seconds)}: {outcome.job.name}{found}")

    def show(self, running: list[Running], ended: list[Outcome], waiting: int) -> None:
        """The live lines, twice a second."""
        if self.live and time.monotonic() - self.looked >= SECONDS_BETWEEN_LOOKS:
            self.looked = time.monotonic()
            with contextlib.suppress(OSError):
                self.live.update(Group(*map(Text, self.lines(running, ended, waiting, time.time()))), refresh=True)

    def lines(self, running: list[Running], ended: list[Outcome], waiting: int, now: float) -> list[str]:
        """A line per running job, and one for all."""
        found = []
        for item in running:
            status = read_json(item.job.folder / "status.json")
            if status.get("updated", 0.0) < item.begun - 1:  # of an earlier attempt
                status = {}
            pace = self.paces.setdefault(item.job.name, Pace())
            found.append(job_line(item.job.name, now - item.begun, status, pace.left(status)))
        good = [outcome.seconds for outcome in ended if not outcome.failed]
        left = time_left(good, [now - item.begun for item in running], waiting, self.slots)
        counts = f"{len(good)} done, {len(running)} running, {len(ended) - len(good)} failed, {waiting} to do"
        return [*found, counts if left is None else f"{counts}, about {span(left)} left"]


class Pace:
    """How fast a job's stage goes, by what was seen of it: a resumed training has not done its first epochs now."""

    def __init__(self) -> None:
        self.first: dict[str, Any] = {}

    def left(self, status: dict[str, Any]) -> float | None:
        """Seconds to the end of the stage; None before two of its epochs were seen."""
        if "epoch" not in status:
            return None
        if (self.first.get("stage"), self.first.get("since")) != (status["stage"], status["since"]):
            self.first = status
        epochs = status["epoch"] - self.first["epoch"]
        if epochs < 1:
            return None
        return float((status["updated"] - self.first["updated"]) / epochs * (status["epochs"] - status["epoch"]))


def job_line(name: str, seconds: float, status: dict[str, Any], left: float | None) -> str:
    """Run, its time so far, stage, epoch, accuracy, time that this stage has left."""
    parts = [name, span(seconds), str(status.get("stage", "starting"))]
    if "epoch" in status:
        parts.append(f"epoch {status['epoch']}/{status['epochs']}")
    if status.get("accuracy") is not None:
        parts.append(f"{status['accuracy']:.2f} %")
    if left is not None:
        parts.append(f"about {span(left)} left in this stage")
    return "  ".join(parts)


def time_left(ended: list[float], running: list[float], waiting: int, slots: int) -> float | None:
    """Seconds until all is done, if the other jobs take as long as those that have ended did on average; None while there is none.

    Args:
        ended: seconds that each finished job took.
        running: seconds since each running job began.
        waiting: jobs that have not begun.
    """
    if not ended:
        return None
    each = sum(ended) / len(ended)
    rest = [max(0.0, each - seconds) for seconds in running]
    return max([(waiting * each + sum(rest)) / slots, *rest])


def span(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
