"""Progress of a run.

It appears as a live bar on a terminal, as a plain line every few seconds elsewhere, and in
status.json for other processes.
"""

import json
import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from runner.display.loggers import Log, Nothing
from runner.files import write_bytes, write_json
from runner.streams import say

NO_LOG = Nothing()
MODES = ("auto", "bar", "lines", "none")
SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_STATUS = 1.0


class Display(Protocol):
    """An output for progress."""

    def stage(self, title: str, total: int, unit: str) -> None: ...

    def progress(self, done: int, total: int, what: str) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A live progress bar per stage, drawn with rich."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=console, transient=False)
        self.bars.start()
        self.task: TaskID | None = None

    def stage(self, title: str, total: int, unit: str) -> None:
        """Begin a new bar."""
        self.task = self.bars.add_task(title, total=total or None, what=unit)

    def progress(self, done: int, total: int, what: str) -> None:
        """Update the current bar."""
        if self.task is not None:
            self.bars.update(self.task, completed=done, total=total or None, what=what)

    def close(self) -> None:
        """Stop updating the bars and restore the terminal."""
        self.bars.stop()


class Lines:
    """A line at the start of a stage and every few seconds, for logs, pipes and clusters."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title = ""
        self.started = self.last = time.monotonic()

    def stage(self, title: str, total: int, unit: str) -> None:
        """Print the stage's title."""
        self.title = title
        self.started = self.last = time.monotonic()
        self.console.print(f"{title} …", highlight=False)

    def progress(self, done: int, total: int, what: str) -> None:
        """Print the progress, at most every `SECONDS_BETWEEN_LINES` seconds."""
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES or not done:
            return
        self.last = now
        left = (now - self.started) / done * (total - done)
        so_far = f"{self.title}: {done}/{total} {what}, {now - self.started:.0f} s"
        self.console.print(f"{so_far}, about {left:.0f} s left", highlight=False)

    def close(self) -> None:
        """Do nothing."""


class Quiet:
    """No output of progress."""

    def stage(self, title: str, total: int, unit: str) -> None:
        """Do nothing."""

    def progress(self, done: int, total: int, what: str) -> None:
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
        about: dict[str, Any],
        writes: bool = True,
        log: Log = NO_LOG,
    ) -> None:
        self.folder, self.shown, self.about = folder, shown, about
        self.writes, self.log = writes, log
        self.logged: set[tuple[str, int]] = set()
        self.history: list[dict[str, Any]] = []
        self.written = 0.0
        self.current: dict[str, Any] = {}

    def stage(self, name: str, title: str, total: int, unit: str) -> None:
        """Begin a stage."""
        self.current = {"stage": name, "since": round(time.time(), 1)}
        self.shown.stage(title, total, unit)
        self._status("running", force=True)

    def progress(self, done: int, total: int, what: str) -> None:
        """Report progress within the current stage."""
        self.shown.progress(done, total, what)

    def epoch(self, row: dict[str, Any], total: int) -> None:
        """Record a finished epoch of the current stage, which has `total` epochs."""
        stage = self.current.get("stage")
        self.history.append({"stage": stage, **row})
        self._log_epochs(str(stage), [row])
        self.current.update(epoch=row["epoch"], epochs=total)
        if row["accuracy"] is not None:  # otherwise keep the accuracy of the last tested epoch
            self.current["accuracy"] = row["accuracy"]
        self._status("running")

    def warn(self, line: str) -> None:
        """Print a line about the run to standard error."""
        say(line)

    def restore(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Insert the history of a cached stage, or the part of a stage before a resume."""
        others = [row for row in self.history if row["stage"] != stage]
        self.history = [*others, *({"stage": stage, **row} for row in rows)]
        self._log_epochs(stage, rows)

    def end(self, status: str) -> None:
        """Write the final status (docs/records.md, status.json)."""
        self._status(status, force=True)

    def _log_epochs(self, stage: str, rows: list[dict[str, Any]]) -> None:
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
        content = {**self.about, "status": status, **self.current, "updated": round(now, 1)}
        write_json(self.folder / "status.json", content)
        self.save_history()

    def save_history(self) -> None:
        """Write metrics.jsonl."""
        if self.writes:
            write_bytes(self.folder / "metrics.jsonl", self.history_text.encode())

    @property
    def history_text(self) -> str:
        """The rows of all epochs as JSON lines, the content of metrics.jsonl."""
        return "".join(json.dumps(row) + "\n" for row in self.history)
