"""Progress of a run.

It appears as a live bar on a terminal, elsewhere as a plain line an epoch, at most one a minute,
and in status.json for other processes.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from runner.display.loggers import Log, Nothing
from runner.files import write_bytes, write_json
from runner.spec.record import Epoch, Row, RunStatus
from runner.streams import say

NO_LOG = Nothing()
MODES = ("auto", "bar", "lines", "none")
SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_STATUS = 1.0


class Display(Protocol):
    """An output for progress."""

    def stage(self, title: str, epochs: int) -> None:
        """Begin a stage; 0 epochs = it does not train."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Report progress within the stage."""

    def epoch(self, row: Epoch, total: int) -> None:
        """Report a finished epoch of `total`; `row` is its line in metrics.jsonl."""

    def close(self) -> None:
        """End the output."""


class Bar:
    """A live progress bar per stage, drawn with rich, with the loss and the accuracy."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self.bars = Progress(*columns, console=console, transient=False, get_time=now)
        self.bars.start()
        self.task: TaskID | None = None
        self.measured: RunStatus = {}

    def stage(self, title: str, epochs: int) -> None:
        """Begin a new bar."""
        self._finish()
        self.measured = {}
        self.task = self.bars.add_task(title, total=None, what="")

    def progress(self, done: int, total: int, what: str) -> None:
        """Update the current bar."""
        if self.task is not None:
            text = results(self.measured) or what
            self.bars.update(self.task, completed=done, total=total or None, what=text)

    def epoch(self, row: Epoch, total: int) -> None:
        """Show the results beside the bar."""
        self.measured |= numbers(row)
        if self.task is not None:
            self.bars.update(self.task, what=results(self.measured))

    def close(self) -> None:
        """Stop updating the bars and restore the terminal."""
        self._finish()
        self.bars.stop()

    def _finish(self) -> None:
        """Stop the clock of the last bar; a stage that reported no progress is one step."""
        if self.task is None:
            return
        (task,) = (each for each in self.bars.tasks if each.id == self.task)
        if task.total is None:
            self.bars.update(self.task, total=1, completed=1)
        self.bars.stop_task(self.task)
        self.task = None


class Lines:
    """Plain lines, for logs, pipes and clusters.

    One at the start of a stage. While it trains, one for an epoch, else one for its progress, but
    at most one a minute in the whole run.
    """

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self.console, self.now = console, now
        self.title, self.epochs = "", 0
        self.last = -math.inf
        self.started, self.begun, self.done, self.total = now(), 0, 0, 0
        self.measured: RunStatus = {}

    def stage(self, title: str, epochs: int) -> None:
        """Print the stage's title."""
        self.title, self.epochs, self.measured = title, epochs, {}
        self.total = 0
        self.console.print(f"{title} …", highlight=False)

    def progress(self, done: int, total: int, what: str) -> None:
        """Print the progress of a stage that does not train."""
        if total != self.total:  # the first report; after a resume it does not begin at zero
            self.started, self.begun, self.total = self.now(), done, total
        self.done = done
        if not self.epochs:
            self._say(f"{self.title}: {done}/{total} {what}")

    def epoch(self, row: Epoch, total: int) -> None:
        """Print the results of the epoch."""
        self.measured |= numbers(row)
        if self.total:  # else it is an epoch of before a resume
            self._say(f"{self.title}: epoch {row['epoch']}/{total}, {results(self.measured)}")

    def close(self) -> None:
        """Do nothing."""

    def _say(self, text: str) -> None:
        """Print a line with the time left, unless one was printed less than a minute ago."""
        now = self.now()
        if now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        passed, share = now - self.started, self.done - self.begun
        left = f", about {passed / share * (self.total - self.done):.0f} s left" if share else ""
        self.console.print(f"{text.removesuffix(', ')}{left}", highlight=False, soft_wrap=True)


def numbers(row: Epoch) -> RunStatus:
    """The loss and the accuracy of an epoch, as far as they were measured."""
    found: RunStatus = {}
    if (loss := row["train_loss"]) is not None:
        found["loss"] = loss
    if (accuracy := row["accuracy"]) is not None:
        found["accuracy"] = accuracy
    return found


def results(measured: RunStatus) -> str:
    """The training loss and the test accuracy as text; empty without any."""
    loss = [f"loss {measured['loss']:.3g}"] if "loss" in measured else []
    accuracy = [f"accuracy {measured['accuracy']:.2f} %"] if "accuracy" in measured else []
    return ", ".join(loss + accuracy)


class Quiet:
    """No output of progress."""

    def stage(self, title: str, epochs: int) -> None:
        """Do nothing."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Do nothing."""

    def epoch(self, row: Epoch, total: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def display(mode: str, console: Console) -> Display:
    """The display for a mode; `auto` selects the bar on a terminal and lines elsewhere."""
    if mode == "none":
        return Quiet()
    if mode == "bar" or (mode == "auto" and console.is_terminal):
        return Bar(console)
    return Lines(console)


class Watcher:
    """Reports the progress of one run.

    It updates the display, writes status.json and metrics.jsonl in the run's folder, and passes
    each epoch to the logger once.
    """

    def __init__(
        self,
        folder: Path,
        shown: Display,
        about: RunStatus,
        writes: bool = True,
        log: Log = NO_LOG,
    ) -> None:
        self.folder, self.shown, self.about = folder, shown, about
        self.writes, self.log = writes, log
        self.logged: set[tuple[str, int]] = set()
        self.history: list[Row] = []
        self.written = 0.0
        self.current: RunStatus = {}

    def stage(self, name: str, title: str, epochs: int = 0) -> None:
        """Begin a stage; 0 epochs = it does not train."""
        self.current = {"stage": name, "since": round(time.time(), 1)}
        self.shown.stage(title, epochs)
        self._status("running", force=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """Report progress within the current stage."""
        self.shown.progress(done, total, what)

    def epoch(self, row: Epoch, total: int) -> None:
        """Record a finished epoch of the current stage, which has `total` epochs."""
        stage = self.current["stage"]
        self.history.append({"stage": stage, **row})
        self._log_epochs(stage, [row])
        self.shown.epoch(row, total)
        # numbers(row) lacks what this epoch did not test; those of an earlier one stay
        self.current |= {"epoch": row["epoch"], "epochs": total}
        self.current |= numbers(row)
        self._status("running")

    def warn(self, line: str) -> None:
        """Print a line about the run to standard error."""
        say(line)

    def restore(self, stage: str, rows: Sequence[Epoch]) -> None:
        """Insert the history of a cached stage, or the part of a stage before a resume."""
        others = [row for row in self.history if row["stage"] != stage]
        own: list[Row] = [{"stage": stage, **row} for row in rows]
        self.history = [*others, *own]
        self._log_epochs(stage, rows)

    def end(self, status: str) -> None:
        """Write the final status (docs/records.md, status.json)."""
        self._status(status, force=True)

    def _log_epochs(self, stage: str, rows: Sequence[Epoch]) -> None:
        """Pass the epochs to the logger that it has not received yet."""
        for row in rows:
            if (stage, row["epoch"]) not in self.logged:
                self.logged.add((stage, row["epoch"]))
                self.log.epoch(stage, row)

    def _status(self, status: str, force: bool = False) -> None:
        now = time.time()
        if not self.writes or (not force and now - self.written < SECONDS_BETWEEN_STATUS):
            return
        self.written = now
        content: RunStatus = {**self.about, "status": status, **self.current}
        write_json(self.folder / "status.json", {**content, "updated": round(now, 1)})
        self.save_history()

    def save_history(self) -> None:
        """Write metrics.jsonl."""
        if self.writes:
            write_bytes(self.folder / "metrics.jsonl", self.history_text.encode())

    @property
    def history_text(self) -> str:
        """The rows of all epochs as JSON lines, the content of metrics.jsonl."""
        return "".join(json.dumps(row) + "\n" for row in self.history)
