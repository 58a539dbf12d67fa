"""Many processes at once: on one run, on runs that share stages, beside removal of the cache."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.damages import loaded
from runner.faults.kills import judged
from runner.faults.kind import Part
from runner.faults.lab import ROOT, start_program, typed
from runner.faults.trial import Ended, Left, Trial, Verdict, worst

PROCESSES = 8


@dataclass(frozen=True)
class Together:
    """Eight processes on one run, or on runs of which some share stages; some are killed."""

    name: ClassVar[str] = "together"
    title: ClassVar[str] = "eight processes on one run or on runs that share stages"
    planned: ClassVar[int] = 16

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each group of eight."""
        while True:
            case, home = stock.draw(rng), stock.empty()
            shared = rng.random() < 0.5
            ways = siblings(stock, case) if shared else [case]
            cases = [ways[i % len(ways)] for i in range(PROCESSES)]
            alones = [stock.alone(each) for each in ways]
            wanted = {alone.identity: alone.record for alone in alones}
            commands = [home.start(each) for each in cases]
            deaths = rng.choice([0, 0, 2])
            for command in rng.sample(commands, deaths):
                time.sleep(rng.uniform(0, 2))
                command.send(signal.SIGKILL)
            ended = [command.wait() for command in commands]
            verdict, message = together(ended, home, wanted, deaths)
            for each in ways if deaths else []:
                home.start(each).wait()
            if deaths:
                last, text = judged(home.start(case).wait(), home, wanted)
                verdict, message = worst([verdict, last]), message or text
            what = f"{PROCESSES} processes, {len(ways)} runs, {deaths} killed"
            yield Trial(self.title, what, verdict, typed(case.words), message)
            discard(home)


def siblings(stock: Stock, case: Case) -> list[Case]:
    """The case and others of the same method, which share its first stages where it has several."""
    method = case.words[0]
    others = [each for each in stock.candidates if each.words[0] == method and stock.takes(each)]
    known: dict[str, Case] = {}
    for each in [case, *others]:
        known.setdefault(stock.alone(each).identity, each)
    return list(known.values())[:4]


def together(
    ended: list[Ended], home: Home, wanted: Mapping[str, Left], deaths: int
) -> tuple[Verdict, str]:
    """The verdict on the processes that were not killed.

    If processes were killed, a run has no record yet where both of its processes were.
    """
    lived = [each for each in ended if each.code != -signal.SIGKILL or not deaths]
    written = home.records() if deaths else wanted
    due = {name: record for name, record in wanted.items() if name in written}
    verdicts = [judged(each, home, due)[0] for each in lived]
    failed = [each for each in lived if each.code != 0]
    message = failed[0].last_line if failed else ""
    # nothing was wrong with the command: a failure is a fault here
    bad = Verdict.UNCLEAR if failed else Verdict.EQUAL
    return worst([*verdicts, bad]), message


@dataclass(frozen=True)
class Removal:
    """`make cache ARGS="remove=true"` beside runs: no weights of a finished run may go."""

    name: ClassVar[str] = "removal"
    title: ClassVar[str] = "removal of unused cache beside runs, then load_ticket of each"
    planned: ClassVar[int] = 8

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each run beside which the cache was cleared."""
        while True:
            cases, home = [stock.draw(rng) for _ in range(4)], stock.empty()
            commands = [home.start(case) for case in cases]
            script = [sys.executable, str(ROOT / "scripts" / "cache.py"), "remove=true"]
            removals = []
            while any(command.code is None for command in commands):
                removals.append(start_program([*script, *home.words[:2]], home.folder).wait())
            for case, command in zip(cases, commands, strict=True):
                yield self._judged(stock, case, home, command.wait(), removals)
            discard(home)

    def _judged(
        self, stock: Stock, case: Case, home: Home, ended: Ended, removals: list[Ended]
    ) -> Trial:
        alone = stock.alone(case)
        found = home.records().get(alone.identity)
        mine = {alone.identity: found} if found else {}
        verdict, message = judged(ended, home, home.records())
        if ended.code == 0 and mine != {alone.identity: alone.record}:
            verdict, message = Verdict.UNEQUAL, "another record"
        if verdict == Verdict.EQUAL:
            before, after = loaded(alone.home, alone), loaded(home, alone)
            if before.output != after.output:
                verdict, message = Verdict.UNEQUAL, f"weights lost: {after.last_line}"
        for removal in removals:
            if removal.code != 0:
                verdict, message = judged(removal, home, {})[0], removal.last_line
        what = f"{len(removals)} removals beside the run"
        return Trial(self.title, what, verdict, typed(case.words), message)
