"""`make faults`: trials of every kind, in a stated time, and the table of what they showed."""

import contextlib
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch
from rich.console import Console

from runner.errors import EXIT_FAILED, ConfigError, one_of
from runner.faults.cases import Stock
from runner.faults.kind import Kind, Unavailable
from runner.faults.kinds import KINDS
from runner.faults.lab import ROOT
from runner.faults.page import Figures, Origin, plain, write
from runner.faults.trial import Trial
from runner.records.provenance import device_name, provenance

RESULTS, PAGES = (
    ROOT / "results" / "faults.json",
    (ROOT / "docs" / "faults.md", ROOT / "README.md"),
)
EVERY = 15.0  # seconds between two lines of progress
USAGE = "make faults takes minutes=M, seed=N, only=KIND[,KIND] and write=false"


@dataclass(frozen=True)
class Options:
    """Arguments of the command.

    Args:
        minutes: time limit; None = until every kind has its planned number of trials.
        only: names of kinds; all if empty.
        write: whether to write the JSON file and the page. A part of the kinds writes nothing.
    """

    minutes: float | None = None
    seed: int = 0
    only: tuple[str, ...] = ()
    write: bool = True


def parse(words: list[str]) -> Options:
    """The options that the words of a command line give.

    Raises:
        ConfigError: an unknown word or an invalid value.
    """
    known = [kind.name for kind in KINDS]
    given = dict(word.partition("=")[::2] for word in words)
    if unknown := set(given) - {"minutes", "seed", "only", "write"}:
        raise ConfigError(f"{sorted(unknown)[0]} is not an argument: {USAGE}")
    only = tuple(filter(None, given.get("only", "").split(",")))
    for name in only:
        if name not in known:
            raise ConfigError(one_of("only", name, known))
    try:
        minutes, seed = float(given.get("minutes", "inf")), int(given.get("seed", "0"))
    except ValueError as error:
        raise ConfigError(f"{error}: {USAGE}") from None
    if not minutes > 0:
        raise ConfigError(f"minutes={minutes:g} must be above 0")
    written = given.get("write", "true") != "false" and not only
    return Options(minutes if math.isfinite(minutes) else None, seed, only, written)


@dataclass
class Progress:
    """The trials of one kind so far."""

    kind: Kind
    source: Iterator[Trial]
    done: int = 0

    @property
    def share(self) -> float:
        """Part of the planned trials that is done."""
        return self.done / self.kind.planned


@dataclass
class Driver:
    """All trials so far, and why some kinds were not tried."""

    console: Console
    trials: list[Trial] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    last_line: float = field(default_factory=time.monotonic)

    def go(self, stock: Stock, options: Options) -> None:
        """Take a trial of the kind that is least advanced, until time or plans are used up."""
        until = time.monotonic() + 60 * (options.minutes or math.inf)
        left = [
            Progress(kind, kind.trials(stock, random.Random(f"{options.seed} {kind.name}")))
            for kind in KINDS
            if not options.only or kind.name in options.only
        ]
        while left and time.monotonic() < until:
            least = min(left, key=lambda progress: progress.share)
            try:
                self.note(next(least.source))
            except Unavailable as why:
                self.skipped[least.kind.title] = str(why)
                left.remove(least)
                continue
            least.done += 1
            left = [progress for progress in left if progress.share < 1]

    def note(self, trial: Trial) -> None:
        """Add a trial; print a fault at once and progress now and then."""
        self.trials.append(trial)
        if trial.is_fault:
            self.say(f"{trial.verdict.value}: {trial.what}\n  {trial.command}\n  {trial.message}")
        if time.monotonic() - self.last_line > EVERY:
            self.last_line = time.monotonic()
            faults = sum(trial.is_fault for trial in self.trials)
            self.say(f"{len(self.trials):,} trials, {faults:,} faults")

    def say(self, text: str) -> None:
        """Print as it is: labels and messages may contain markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def faults(words: list[str], console: Console) -> int:
    """Try every kind of fault and print the table; the exit code is 1 if a trial showed a fault.

    Ctrl-C ends the trials; the table shows what was tried so far.

    Raises:
        ConfigError: an invalid argument.
    """
    options, started = parse(words), time.monotonic()
    folder, driver = Path(tempfile.mkdtemp(prefix="winnow-faults-")), Driver(console)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            driver.go(Stock(folder), options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        minutes = (time.monotonic() - started) / 60
        titles = [kind.title for kind in KINDS]
        figures = Figures(_origin(options, minutes), titles, driver.trials, driver.skipped)
        _show(figures, driver)
    if options.write:
        write(figures, RESULTS, PAGES)
        driver.say(f"written to {RESULTS} and {', '.join(map(str, PAGES))}")
    return EXIT_FAILED if figures.faults else 0


def _origin(options: Options, minutes: float) -> Origin:
    made = provenance(torch.device("cpu"), 1)
    commit = f"{made['git_sha']:.8}" + (" with changes" if made["git_dirty"] else "")
    today = datetime.now(timezone.utc).date().isoformat()
    return Origin(device_name(torch.device("cpu")), today, commit, options.seed, minutes)


def _show(figures: Figures, driver: Driver) -> None:
    driver.say(f"\n{figures.origin}\n\n{plain(figures)}")
    for kind, why in figures.skipped.items():
        driver.say(f"not tried: {kind}: {why}")
