"""Kills and signals at random moments, then the same command until the run is done.

Runs of one process; runner/faults/launchers.py kills those of several.
"""

import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from runner.engine.signals import SAME_REQUEST
from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.kind import Part
from runner.faults.lab import typed
from runner.faults.trial import TRACEBACK, Ended, Left, Trial, Verdict, classify, differences

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LEAST, MOST = 2, 4  # kills before the run is left alone


@dataclass(frozen=True)
class Kills:
    """A process is killed two to four times."""

    name: ClassVar[str] = "kills"
    title: ClassVar[str] = "kills and signals at random moments, every method"
    planned: ClassVar[int] = 300

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each kill."""
        while True:
            for name in part.of(stock.methods):
                yield from self._life(stock, stock.of_method(name, rng), rng)

    def _life(self, stock: Stock, case: Case, rng: Random) -> Iterator[Trial]:
        alone, home = stock.alone(case), stock.empty()
        killed: list[tuple[str, Ended]] = []
        for _ in range(rng.randint(LEAST, MOST)):
            moment, number = rng.uniform(0, 1.1 * alone.seconds), rng.choice(SIGNALS)
            command = home.start(case)
            time.sleep(moment)
            alive = command.code is None
            command.send(number)
            if number == signal.SIGINT and rng.random() < 0.3:
                time.sleep(rng.uniform(0, 2 * SAME_REQUEST))
                command.send(number)  # a second Ctrl-C, or one more signal of the first
            if alive:
                killed.append((f"{number.name} after {moment:.2f} s", command.wait()))
            else:
                command.wait()
        ended = home.start(case).wait()
        verdict, message = judged(ended, home, {alone.identity: alone.record})
        for what, own in killed:
            mine = interrupted(own)
            yield Trial(
                self.title,
                what,
                mine or verdict,
                typed(case.words),
                last_of_traceback(own.output) if mine else message,
            )
        discard(home)


def interrupted(ended: Ended) -> Verdict | None:
    """The verdict on a command that was killed, where its end itself is a fault."""
    if ended.code is None:
        return Verdict.HANG
    return Verdict.TRACEBACK if TRACEBACK in ended.output else None


def judged(ended: Ended, home: Home, wanted: Mapping[str, Left]) -> tuple[Verdict, str]:
    """The verdict on the last command of a trial, and its message or the fields that differ."""
    found = home.records()
    verdict = classify(ended, found == wanted)
    if verdict == Verdict.UNEQUAL:
        unlike = [
            f"{name}: {differences(found.get(name, {}), wanted.get(name, {}))}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        ]
        return verdict, " | ".join(unlike)
    if verdict == Verdict.TRACEBACK:
        return verdict, f"exit {ended.code}: {last_of_traceback(ended.output)}"
    return verdict, "" if verdict == Verdict.EQUAL else ended.last_line


def last_of_traceback(output: str) -> str:
    """The last line of a traceback: the error."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith((" ", "\t"))]
    return (errors or lines or ["(no output)"])[-1][:300]
