"""Trials of all kinds in turn, taken by one process or shared out among several."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any

from runner.faults.cases import Stock
from runner.faults.kind import Kind, Part, Unavailable
from runner.faults.lab import forks
from runner.faults.trial import Trial, Verdict

PARTS = 4  # of each kind; also the largest number of processes
Done = Mapping[tuple[str, int], int]  # name of a kind, part -> trials


@dataclass(frozen=True)
class Event:
    """A trial, or the reason for which a kind cannot be tried here.

    Args:
        kind: name of the kind.
        part: index of the part.
        why: empty if there is a trial.
        seconds: how long it took.
    """

    kind: str
    part: int
    trial: Trial | None
    why: str = ""
    seconds: float = 0.0

    def as_json(self) -> Mapping[str, object]:
        """The event as plain JSON."""
        trial = self.trial and {**vars(self.trial), "verdict": self.trial.verdict.value}
        return {**vars(self), "trial": trial}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> "Event":
        """The event that `as_json` describes."""
        trial = row["trial"]
        made = trial and Trial(**{**trial, "verdict": Verdict(trial["verdict"])})
        return Event(**{**row, "trial": made})


@dataclass
class Progress:
    """The trials of one part of a kind so far."""

    kind: Kind
    part: Part
    seed: int
    stock: Stock
    done: int
    source: Iterator[Trial] | None = None

    @property
    def share(self) -> float:
        """Share of the planned trials that is done; 1 if none is planned."""
        planned = self.part.share(self.kind.planned)
        return self.done / planned if planned else 1.0

    def step(self) -> Event:
        """Make the next trial. An error of the harness itself is a trial that shows a fault."""
        started = time.monotonic()
        if self.source is None:  # what was done before an interruption is not tried again
            rng = Random(f"{self.seed} {self.kind.name} {self.part.index} {self.done}")
            self.source = self.kind.trials(self.stock, rng, self.part)
        try:
            trial = next(self.source)
        except Unavailable as error:
            return Event(self.kind.name, self.part.index, None, str(error))
        except Exception as error:
            self.source = None
            message = f"{type(error).__name__}: {error}"[:300]
            what = "the trial could not be made"
            trial = Trial(self.kind.title, what, Verdict.UNCLEAR, message=message)
        self.done += 1
        return Event(self.kind.name, self.part.index, trial, seconds=time.monotonic() - started)

    def close(self) -> None:
        """End the trial that is being made: unmount disks, stop clusters."""
        if isinstance(self.source, Generator):
            self.source.close()


@dataclass(frozen=True)
class Work:
    """The trials of one process.

    The trials depend on the seed alone, and not on the number of processes.

    Args:
        parts: indices of the parts of each kind.
        until: when to stop, on the clock `time.monotonic`.
        folder: for the files of all trials.
        done: trials made before an interruption.
    """

    kinds: Sequence[Kind]
    parts: Sequence[int]
    seed: int
    until: float
    folder: Path
    done: Done

    def events(self) -> Generator[Event, None, None]:
        """Take a trial of the part that is least advanced, until time or plans are used up."""
        self.folder.mkdir(exist_ok=True)
        stock = Stock(self.folder, self.seed)
        parts = [
            Progress(kind, part, self.seed, stock, self.done.get((kind.name, part.index), 0))
            for kind in self.kinds
            for part in parts_of(kind)
            if part.index in self.parts
        ]
        left = list(parts)
        try:
            while left := [each for each in left if each.share < 1]:
                if time.monotonic() > self.until:
                    return
                least = min(left, key=lambda each: each.share)
                event = least.step()
                yield event
                if event.why:
                    left.remove(least)
        finally:
            for each in parts:
                each.close()


def parts_of(kind: Kind) -> list[Part]:
    """The parts of a kind; one, if there are too few trials to divide."""
    count = PARTS if kind.planned >= 2 * PARTS else 1
    return [Part(index, count) for index in range(count)]


def share_out(work: Work, workers: int) -> list[Work]:
    """The work of each process; `workers` is at most PARTS."""
    return [
        Work(
            work.kinds,
            work.parts[i::workers],
            work.seed,
            work.until,
            work.folder / f"worker-{i}",
            work.done,
        )
        for i in range(workers)
    ]


def events(works: Sequence[Work]) -> Generator[Event, None, None]:
    """The events of all processes, as they come; one alone needs no process of its own."""
    if len(works) == 1:
        yield from works[0].events()
        return
    running: dict[Connection, ForkServerProcess] = {}
    for work in works:
        mine, theirs = Pipe(duplex=False)
        process = forks().Process(target=_send, args=(work, theirs))
        process.start()
        theirs.close()
        running[mine] = process
    try:
        while running:
            for end in wait(list(running)):
                assert isinstance(end, Connection)
                try:
                    yield end.recv()
                except EOFError:
                    running.pop(end).join()
    finally:
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGINT)
        for process in running.values():
            process.join()


def _send(work: Work, end: Connection) -> None:
    """Send the events of a worker. A Ctrl-C in the terminal reaches the driver only."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt, BrokenPipeError),
        contextlib.closing(work.events()) as source,
    ):
        for event in source:
            end.send(event)


def seconds_left(done: Sequence[Event], kinds: Sequence[Kind], workers: int) -> float:
    """An estimate from the mean duration of each kind's trials; nan before the first trial."""
    made = [event for event in done if event.trial is not None]
    if not made:
        return math.nan
    overall = sum(event.seconds for event in made) / len(made)
    unavailable = {event.kind for event in done if event.why}
    total = 0.0
    for kind in kinds:
        mine = [event.seconds for event in made if event.kind == kind.name]
        mean = sum(mine) / len(mine) if mine else overall
        if kind.name not in unavailable:
            total += mean * max(0, kind.planned - len(mine))
    return total / workers
