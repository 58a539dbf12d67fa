"""Fuzzed command lines: accepted or refused with a message, in-process and by the command."""

import json
import resource
import signal
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TypedDict

from runner.config.build import build_plain, build_run
from runner.config.compose import Composer, compose_in_full
from runner.config.environment import environment_of
from runner.errors import ConfigError
from runner.faults.cases import Stock, discard
from runner.faults.grammar import NULL, Grammar
from runner.faults.kills import last_of_traceback
from runner.faults.kind import Part
from runner.faults.lab import call, start, typed
from runner.faults.trial import Ended, Trial, Verdict, classify

BATCH = 250  # command lines for a process, which composes each method once
IN_FULL = 40  # every so many is composed as the command line does it, which takes long
SECONDS = 20.0  # of processor time for one command line in-process
PATIENCE = 300.0  # seconds without a verdict
MEMORY = 6 * 2**30  # bytes of a process beyond what it has
COMMAND_SECONDS = 60.0


class TooLong(BaseException):
    """A command line is not built in time. No `except Exception` catches it."""


class Attempted(TypedDict):
    """The verdict on a command line, as the process that tried it writes it."""

    words: list[str]
    verdict: str
    message: str


@dataclass(frozen=True)
class InProcess:
    """Composing and building a run from random words."""

    name: ClassVar[str] = "fuzz"
    title: ClassVar[str] = "fuzzed command lines, composed and built in-process"
    planned: ClassVar[int] = 10_000

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each command line."""
        grammar = Grammar(stock.composer)
        while True:
            lines = [grammar.line(rng) for _ in range(BATCH)]
            while lines:
                tried = yield from self._batch(lines, stock)
                lines = lines[tried:]

    def _batch(self, lines: list[list[str]], stock: Stock) -> Generator[Trial, None, int]:
        """Yield the trials of the first lines, up to one of which their process died; their number.

        The process goes on while trials of other kinds are made.
        """
        home, tried = stock.empty(), 0
        file = home.folder / "verdicts"
        command = call(build_all, (lines, str(file)), home.folder)
        ended, heard = None, time.monotonic()
        try:
            while ended is None:
                if command.code is not None or time.monotonic() - heard > PATIENCE:
                    ended = command.wait(0)
                for row in _rows(file)[tried:]:
                    tried += 1
                    yield self._trial(row)
                    heard = time.monotonic()
                time.sleep(0.02)
        finally:
            command.send(signal.SIGKILL)
            discard(home)
        if tried < len(lines):
            verdict = classify(ended, same=False) if ended.code != 0 else Verdict.TRACEBACK
            culprit = typed(lines[tried])
            yield Trial(self.title, "the process died", verdict, culprit, ended.last_line)
            tried += 1
        return tried

    def _trial(self, row: Attempted) -> Trial:
        what, line = f"{len(row['words'])} words", typed(row["words"])
        return Trial(self.title, what, Verdict(row["verdict"]), line, row["message"])


def _rows(file: Path) -> list[Attempted]:
    """The verdicts that are written in full."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(row) for row in text.split("\n")[:-1]]


def build_all(lines: list[list[str]], file: str) -> None:
    """Build each command line and write its verdict at once."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    composer = Composer()
    with Path(file).open("w", encoding="utf-8", errors="surrogateescape") as out:
        for i, words in enumerate(lines):
            verdict, message = attempt(words, None if i % IN_FULL == 0 else composer)
            if verdict in (Verdict.TRACEBACK, Verdict.HANG):
                words = shortened(words, message)
            row: Attempted = {"words": words, "verdict": verdict.value, "message": message}
            out.write(json.dumps(row) + "\n")
            out.flush()


def attempt(words: list[str], composer: Composer | None) -> tuple[Verdict, str]:
    """Compose and build a run: EQUAL if it is accepted, REFUSED if a ConfigError says why not.

    Args:
        composer: composes as tables do; None = as the command line does.
    """

    def ring(number: int, frame: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        if composer is not None:
            build_plain(composer.plain(words))
        else:
            cfg = compose_in_full(words)
            environment_of(cfg)
            build_run(cfg)
        return Verdict.EQUAL, ""
    except ConfigError as error:
        blank = not str(error).strip()
        return (Verdict.UNCLEAR if blank else Verdict.REFUSED), str(error)[:300]
    except TooLong:
        return Verdict.HANG, f"not built in {SECONDS:g} s"
    except BaseException:
        return Verdict.TRACEBACK, last_of_traceback(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def shortened(words: list[str], message: str) -> list[str]:
    """The words without those that the same error does not need."""
    for word in list(words):
        less = [other for other in words if other is not word]
        verdict, found = attempt(less, None)
        same = found.partition(":")[0] == message.partition(":")[0]
        if verdict in (Verdict.TRACEBACK, Verdict.HANG) and same:
            words = less
    return words


@dataclass(frozen=True)
class ThroughCommand:
    """`python run.py <random words> env.plan=true`."""

    name: ClassVar[str] = "commands"
    title: ClassVar[str] = "fuzzed command lines through `python run.py ... env.plan=true`"
    planned: ClassVar[int] = 200

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each command line."""
        grammar = Grammar(stock.composer)
        flags = ("-m", "--multirun", "--density=0.1", "-x", "--cfg", "--help", "--", "--info")
        while True:
            words = [word.replace(NULL, "") for word in grammar.line(rng)]
            if rng.random() < 0.15:
                words.insert(rng.randrange(len(words) + 1), rng.choice(flags))
            home = stock.empty()
            full = [*words, *home.words, "env.plan=true"]
            ended = start(full, home.folder, real=True).wait(COMMAND_SECONDS)
            verdict, message = plan_verdict(ended)
            yield Trial(self.title, f"{len(words)} words", verdict, typed(words), message)
            discard(home)


def plan_verdict(ended: Ended) -> tuple[Verdict, str]:
    """The verdict on a plan: it is printed, or the words are refused."""
    verdict = classify(ended, same=True)
    if verdict == Verdict.TRACEBACK:
        return verdict, last_of_traceback(ended.output)
    # argparse refuses flags with exit code 2 and its usage
    if verdict == Verdict.UNCLEAR and ended.code == 2 and "usage:" in ended.output:
        return Verdict.REFUSED, ended.last_line
    if verdict == Verdict.FAILED:
        return Verdict.UNCLEAR, ended.last_line
    return verdict, "" if verdict == Verdict.EQUAL else ended.last_line
