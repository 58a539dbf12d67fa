"""`make faults`: trials of every kind, in a stated time, and the table of what they showed."""

import contextlib
import math
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from rich.console import Console

from runner.errors import EXIT_FAILED, ConfigError, one_of
from runner.faults.journal import Journal, counted
from runner.faults.kind import Kind
from runner.faults.kinds import KINDS
from runner.faults.lab import ROOT
from runner.faults.page import Figures, Origin, plain, write
from runner.faults.trial import Trial
from runner.faults.work import PARTS, Event, Work, events, seconds_left, share_out
from runner.records.provenance import provenance

RESULTS, PAGES = (
    ROOT / "results" / "faults.json",
    (ROOT / "docs" / "faults.md", ROOT / "README.md"),
)
JOURNAL = ROOT / "build" / "faults.jsonl"  # git ignores this folder
NAMES = {"minutes", "seed", "workers", "only", "write", "fresh"}
EVERY = 15.0  # seconds between two lines of progress
USAGE = (
    "make faults takes minutes=M, seed=N, workers=N, only=KIND[,KIND], write=false and fresh=true"
)


@dataclass(frozen=True)
class Options:
    """Arguments of the command.

    Args:
        minutes: time limit; None = until every kind has its planned number of trials.
        only: names of kinds; all if empty.
        write: whether to write the JSON file and the page. A part of the kinds writes nothing.
        workers: processes that make trials; the trials are the same for any number.
        fresh: whether to forget the trials of an interrupted command.
    """

    minutes: float | None = None
    seed: int = 0
    only: tuple[str, ...] = ()
    write: bool = True
    workers: int = 1
    fresh: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds to try."""
        return tuple(kind for kind in KINDS if not self.only or kind.name in self.only)


def parse(words: list[str]) -> Options:
    """The options that the words of a command line give.

    Raises:
        ConfigError: an unknown word or an invalid value.
    """
    known = [kind.name for kind in KINDS]
    given = dict(word.partition("=")[::2] for word in words)
    if unknown := set(given) - NAMES:
        raise ConfigError(f"{sorted(unknown)[0]} is not an argument: {USAGE}")
    only = tuple(filter(None, given.get("only", "").split(",")))
    for name in only:
        if name not in known:
            raise ConfigError(one_of("only", name, known))
    try:
        minutes, seed = float(given.get("minutes", "inf")), int(given.get("seed", "0"))
        workers = int(given.get("workers", "1"))
    except ValueError as error:
        raise ConfigError(f"{error}: {USAGE}") from None
    if not minutes > 0:
        raise ConfigError(f"minutes={minutes:g} must be above 0")
    if not 1 <= workers <= PARTS:
        raise ConfigError(f"workers={workers} must be from 1 to {PARTS}")
    written = given.get("write", "true") != "false" and not only
    fresh = given.get("fresh", "false") == "true"
    limit = minutes if math.isfinite(minutes) else None
    return Options(limit, seed, only, written, workers, fresh)


@dataclass
class Driver:
    """All events so far. What was kept of an interrupted command comes first."""

    console: Console
    options: Options
    journal: Journal
    found: list[Event] = field(default_factory=list)
    last_line: float = field(default_factory=time.monotonic)
    earlier: float = 0.0  # seconds of an interrupted command
    complete: bool = False  # whether the trials ended by themselves

    def go(self, folder: Path) -> None:
        """Make trials until time or plans are used up, or until Ctrl-C."""
        self.found += self.journal.begin()
        self.earlier = sum(event.seconds for event in self.found) / self.options.workers
        if self.found:
            self.say(f"{len(self.found):,} trials of an interrupted command are kept (fresh=true)")
        until = time.monotonic() + 60 * (self.options.minutes or math.inf)
        whole = Work(
            self.options.kinds,
            range(PARTS),
            self.options.seed,
            until,
            folder,
            counted(self.found),
        )
        works = share_out(whole, self.options.workers)
        with interruptible(), contextlib.closing(events(works)) as source:
            for event in source:
                self.note(event)
            self.complete = True

    @property
    def trials(self) -> list[Trial]:
        """All trials so far."""
        return [event.trial for event in self.found if event.trial is not None]

    @property
    def skipped(self) -> dict[str, str]:
        """Title of each kind that this machine cannot make -> why."""
        titles = {kind.name: kind.title for kind in KINDS}
        return {titles[event.kind]: event.why for event in self.found if event.why}

    def note(self, event: Event) -> None:
        """Keep an event; print a fault at once and progress now and then."""
        self.found.append(event)
        self.journal.add(event)
        trial = event.trial
        if trial is not None and trial.is_fault:
            self.say(f"{trial.verdict.value}: {trial.what}\n  {trial.command}\n  {trial.message}")
        if time.monotonic() - self.last_line > EVERY:
            self.last_line = time.monotonic()
            made = self.trials
            planned = sum(kind.planned for kind in self.options.kinds)
            faults = sum(each.is_fault for each in made)
            left = seconds_left(self.found, self.options.kinds, self.options.workers) / 60
            self.say(
                f"{len(made):,} of {planned:,} trials, {faults:,} faults; about {left:.0f} minutes"
                " left"
            )

    def say(self, text: str) -> None:
        """Print as it is: labels and messages may contain markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end the trials and not the command."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def faults(words: list[str], console: Console) -> int:
    """Try every kind of fault and print the table; the exit code is 1 if a trial showed a fault.

    Ctrl-C and SIGTERM end the trials; the table shows what was tried so far, and the same command
    continues.

    Raises:
        ConfigError: an invalid argument.
    """
    options, started = parse(words), time.monotonic()
    origin = _origin(options)
    kept = JOURNAL if options.write and options.minutes is None else None
    journal = Journal(kept, f"seed {options.seed}, commit {origin.commit}")
    if options.fresh:
        journal.end()
    folder = Path(tempfile.mkdtemp(prefix="winnow-faults-"))
    driver = Driver(console, options, journal)
    try:
        driver.go(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - started + driver.earlier) / 60
    titles, trials = [kind.title for kind in KINDS], driver.trials
    figures = Figures(replace(origin, minutes=minutes), titles, trials, driver.skipped)
    _show(figures, driver)
    if options.write:
        write(figures, RESULTS, PAGES)
        driver.say(f"written to {RESULTS} and {', '.join(map(str, PAGES))}")
    if driver.complete:
        journal.end()
    return EXIT_FAILED if figures.faults else 0


def _origin(options: Options) -> Origin:
    made = provenance(torch.device("cpu"), 1)
    commit = f"{made.git_sha:.8}" + (" with changes" if made.git_dirty else "")
    today = datetime.now(timezone.utc).date().isoformat()
    return Origin(made.device_name, today, commit, options.seed, minutes=0)


def _show(figures: Figures, driver: Driver) -> None:
    driver.say(f"\n{figures.origin}\n\n{plain(figures)}")
    for kind, why in figures.skipped.items():
        driver.say(f"not tried: {kind}: {why}")
