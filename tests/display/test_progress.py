"""Progress on a terminal and in a log, on a clock that the tests set."""

import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from rich.console import Console

from runner.display.progress import Bar, Lines, results

Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Screen:
    """A console in memory and its clock."""

    clock: Clock = field(default_factory=Clock)
    file: io.StringIO = field(default_factory=io.StringIO)

    def console(self, terminal: bool, width: int = 80) -> Console:
        return Console(file=self.file, force_terminal=terminal, width=width, color_system=None)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def row(epoch: int, loss: float | None = 0.5, accuracy: float | None = 90.0) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": loss, "accuracy": accuracy}


def training(shown: Bar | Lines, clock: Clock, epochs: int, seconds: float, first: int = 0) -> None:
    """Epochs of ten steps of equal time, with the accuracy 80 + epoch."""
    for epoch in range(first, epochs):
        for step in range(10):
            clock.seconds += seconds / 10
            shown.progress(10 * epoch + step + 1, 10 * epochs, "steps")
        shown.epoch(row(epoch + 1, 1 / (epoch + 1), 80.0 + epoch + 1), epochs)


def test_a_log_has_a_line_an_epoch_where_epochs_take_more_than_a_minute() -> None:
    screen = Screen()
    shown = Lines(screen.console(False, 200), screen.clock)
    shown.stage("train (3 epochs)", 3)
    training(shown, screen.clock, 3, 100.0)
    # the clock of the estimate starts at the first step: 90 of 100 s for 9 steps
    assert screen.lines == [
        "train (3 epochs) …",
        "train (3 epochs): epoch 1/3, loss 1, accuracy 81.00 %, about 200 s left",
        "train (3 epochs): epoch 2/3, loss 0.5, accuracy 82.00 %, about 100 s left",
        "train (3 epochs): epoch 3/3, loss 0.333, accuracy 83.00 %, about 0 s left",
    ]


@pytest.mark.parametrize(("seconds", "epochs"), [(1.0, 300), (7.0, 50), (59.9, 20), (60.1, 20)])
def test_a_log_has_at_most_one_line_a_minute_besides_titles(seconds: float, epochs: int) -> None:
    screen = Screen()
    shown = Lines(screen.console(False, 200), screen.clock)
    times = []
    for name in ("dense", "train"):
        shown.stage(name, epochs)
        for epoch in range(epochs):
            screen.clock.seconds += seconds
            shown.progress(epoch + 1, epochs, "steps")
            before = len(screen.lines)
            shown.epoch(row(epoch + 1), epochs)
            times += [screen.clock.seconds] * (len(screen.lines) - before)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert times[0] == seconds  # the first epoch at once
    assert min(gaps) >= 60 and max(gaps) < 60 + seconds


def test_a_stage_that_does_not_train_reports_its_progress_once_a_minute() -> None:
    screen = Screen()
    shown = Lines(screen.console(False, 200), screen.clock)
    shown.stage("prune (pruning)", 0)
    for done in range(1, 101):
        shown.progress(done, 100, "pruning rounds")
        screen.clock.seconds += 1
    # printed at 0, 60 s; at 60 s, 60 of 61 rounds since the first took 60 s
    assert screen.lines == [
        "prune (pruning) …",
        "prune (pruning): 1/100 pruning rounds",
        "prune (pruning): 61/100 pruning rounds, about 39 s left",
    ]


def test_the_estimate_of_a_resumed_training_counts_its_own_steps_alone() -> None:
    screen = Screen()
    shown = Lines(screen.console(False, 200), screen.clock)
    shown.stage("train (10 epochs)", 10)
    for epoch in range(1, 9):
        shown.epoch(row(epoch), 10)  # of before
    assert len(screen.lines) == 1
    training(shown, screen.clock, 10, 100.0, first=8)
    assert screen.lines[1:] == [
        "train (10 epochs): epoch 9/10, loss 0.111, accuracy 89.00 %, about 100 s left",
        "train (10 epochs): epoch 10/10, loss 0.1, accuracy 90.00 %, about 0 s left",
    ]


def test_an_epoch_without_a_test_shows_the_last_accuracy() -> None:
    screen = Screen()
    shown = Lines(screen.console(False, 200), screen.clock)
    shown.stage("train", 2)
    for epoch, accuracy in ((1, 75.0), (2, None)):
        screen.clock.seconds += 100
        shown.progress(epoch, 2, "steps")
        shown.epoch(row(epoch, 0.25, accuracy), 2)
    assert screen.lines[-1].startswith("train: epoch 2/2, loss 0.25, accuracy 75.00 %")
    assert results({}) == "" and results({"accuracy": 75.0}) == "accuracy 75.00 %"


@pytest.fixture
def bar() -> Iterator[tuple[Bar, Screen]]:
    screen = Screen()
    shown = Bar(screen.console(True), screen.clock)
    yield shown, screen
    shown.close()


def drawn(shown: Bar) -> list[str]:
    """The bars as they are drawn now on a terminal of 80 columns."""
    console = Console(width=80, color_system=None, file=io.StringIO(), force_terminal=True)
    with console.capture() as capture:
        console.print(shown.bars.get_renderable())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_bar_shows_loss_and_accuracy_on_one_line(bar: tuple[Bar, Screen]) -> None:
    shown, screen = bar
    shown.stage("dense_r1 (30 epochs)", 30)
    training(shown, screen.clock, 20, 1.0)
    (line,) = drawn(shown)
    assert "200/200" in line and "loss 0.05, accuracy 100.00 %" in line, line


def test_a_finished_bar_stops_moving(bar: tuple[Bar, Screen]) -> None:
    shown, screen = bar
    shown.stage("read (reading)", 0)  # it reports no progress
    shown.stage("dense (3 epochs)", 3)
    training(shown, screen.clock, 3, 1.0)
    shown.stage("search (4 epochs)", 4)  # it ends early, as a diverged training does
    screen.clock.seconds += 1
    shown.progress(1, 40, "steps")
    screen.clock.seconds += 1
    shown.progress(2, 40, "steps")
    shown.stage("train (3 epochs)", 3)
    first = drawn(shown)
    for _ in range(5):
        screen.clock.seconds += 1000.3
        assert drawn(shown)[:3] == first[:3]
    assert [task.finished for task in shown.bars.tasks] == [True, True, False, False]
    shown.close()
    last = drawn(shown)
    screen.clock.seconds += 1000.3
    assert drawn(shown) == last


def test_a_run_shows_loss_and_accuracy_on_its_bar_and_in_its_status(
    command: Command, tmp_path: Path
) -> None:
    done = command("method=random", "density=0.5", *SMALL, "env.progress=bar")
    assert done.returncode == 0, done.stderr
    assert re.search(r"train \(2 epochs\).* loss \d\.\d+, accuracy \d+\.\d\d %", done.stdout)
    (path,) = tmp_path.glob("results/runs/*/status.json")
    status = json.loads(path.read_text())
    rows = [json.loads(line) for line in path.with_name("metrics.jsonl").read_text().splitlines()]
    assert (status["loss"], status["accuracy"]) == (rows[-1]["train_loss"], rows[-1]["accuracy"])
