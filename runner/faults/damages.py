"""Damaged files of a cache, of results and of prepared data, then a run that needs them."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

from runner.faults.cases import Alone, Case, Home, Stock, discard
from runner.faults.damage import DAMAGES, swap_folder
from runner.faults.kills import judged
from runner.faults.kind import Part
from runner.faults.lab import call, run, typed
from runner.faults.trial import Ended, Trial, Verdict, classify, worst

LATER = 0.7  # share of trials in which the stages after the damaged one are missing
WHOLE = 0.06  # share of trials in which a whole stage is swapped


@dataclass(frozen=True)
class CacheDamage:
    """A file of a cached stage is damaged, and the run's record is missing."""

    name: ClassVar[str] = "cache"
    title: ClassVar[str] = "damaged files of a cached stage, then the run again"
    planned: ClassVar[int] = 200

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage."""
        while True:
            case = stock.draw(rng)
            alone, other_seed = stock.alone(case), stock.alone(case.seeded(1))
            home = stock.finished(case)
            place = rng.randrange(len(alone.keys))
            folder = home.cache / "stages" / alone.keys[place]
            other = other_seed.home.cache / "stages" / other_seed.keys[place]
            name, how = damaged(folder, other, rng)
            missing = rng.random() < LATER
            for key in alone.keys[place + 1 :] if missing else []:
                shutil.rmtree(home.cache / "stages" / key)
            shutil.rmtree(home.results)
            ended = run([*case.words, *home.words], home.folder)
            wanted = {alone.identity: alone.record}
            verdict, message = judged(ended, home, wanted)
            stage = alone.stages[place]["name"]
            verdict = named(verdict, ended, (folder.name, name))
            later = ", later stages missing" if missing else ""
            yield Trial(
                self.title,
                f"{name} of stage {stage!r}: {how}{later}",
                verdict,
                typed(case.words),
                message,
            )
            discard(home)


def damaged(folder: Path, other: Path, rng: Random) -> tuple[str, str]:
    """Damage a random file of a stage: its name, and what was done."""
    if rng.random() < WHOLE:
        return "the whole folder", swap_folder(folder, other)
    file = rng.choice(sorted(folder.iterdir()))
    damage = rng.choice(DAMAGES)
    return file.name, damage.apply(file, rng, other / file.name)


def named(verdict: Verdict, ended: Ended, names: tuple[str, ...]) -> Verdict:
    """The verdict, given that a failure has to name the file or its folder."""
    return classify(ended, same=True, names=names) if verdict == Verdict.FAILED else verdict


@dataclass(frozen=True)
class TicketDamage:
    """A file of the last stage is damaged, and `load_ticket` reads it."""

    name: ClassVar[str] = "tickets"
    title: ClassVar[str] = "damaged files of a ticket, then load_ticket"
    planned: ClassVar[int] = 60

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage."""
        while True:
            case = stock.draw(rng)
            alone, other_seed = stock.alone(case), stock.alone(case.seeded(1))
            home = stock.finished(case)
            before = loaded(home, alone)
            place = stock.result_of(case)
            folder = home.cache / "stages" / alone.keys[place]
            other = other_seed.home.cache / "stages" / other_seed.keys[place]
            name, how = damaged(folder, other, rng)
            after = loaded(home, alone)
            verdict = classify(after, after.output == before.output, (folder.name, name))
            message = "" if verdict == Verdict.EQUAL else after.last_line
            command = f"load_ticket after {typed(case.words)}"
            yield Trial(self.title, f"{name}: {how}", verdict, command, message)
            discard(home)


def loaded(home: Home, alone: Alone) -> Ended:
    """What `load_ticket` returns, as a digest."""
    arguments = (alone.identity, str(home.results), str(home.cache))
    return call(print_ticket, arguments, home.folder).wait()


def print_ticket(identity: str, results: str, cache: str) -> None:
    """Print a digest of weights and masks, or the message of an error that says what is missing."""
    from runner import load_ticket
    from runner.errors import ConfigError

    try:
        model, masks = load_ticket(identity, results, cache)
    except (FileNotFoundError, ConfigError) as error:
        raise SystemExit(f"failed: {error}") from None
    total = hashlib.sha256()
    for name, tensor in [*model.state_dict().items(), *masks.items()]:
        total.update(name.encode() + tensor.numpy().tobytes())
    print(total.hexdigest())


@dataclass(frozen=True)
class CheckpointDamage:
    """The checkpoint of a killed run is damaged."""

    name: ClassVar[str] = "checkpoints"
    title: ClassVar[str] = "damaged checkpoints, then the run again"
    planned: ClassVar[int] = 80

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage."""
        while True:
            case = stock.draw(rng)
            alone, home = stock.alone(case), stock.half_done(case)
            other = stock.half_done(case.seeded(1))
            if home is None:
                continue
            (file, *_) = sorted(home.cache.glob("checkpoints/*.pt"))
            files = sorted(other.cache.glob("checkpoints/*.pt")) if other else [file]
            how = rng.choice(DAMAGES).apply(file, rng, files[0])
            ended = run([*case.words, *home.words], home.folder)
            verdict, message = judged(ended, home, {alone.identity: alone.record})
            verdict = named(verdict, ended, (file.name, file.stem))
            yield Trial(self.title, f"checkpoint {how}", verdict, typed(case.words), message)
            for used in filter(None, (home, other)):
                discard(used)


@dataclass(frozen=True)
class ResultDamage:
    """A file beside a record is damaged: run, plan and list of tables must cope."""

    name: ClassVar[str] = "results"
    title: ClassVar[str] = "damaged files of results, then the run and a plan"
    planned: ClassVar[int] = 60

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage."""
        while True:
            case = stock.draw(rng)
            home = stock.half_done(case) if rng.random() < 0.3 else None
            home = home or stock.finished(case)
            yield self._trial(stock, case, home, rng)
            discard(home)

    def _trial(self, stock: Stock, case: Case, home: Home, rng: Random) -> Trial:
        alone, other_seed = stock.alone(case), stock.alone(case.seeded(1))
        folder = home.results / "runs" / alone.identity
        other = other_seed.home.results / "runs" / other_seed.identity
        files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".lock")]
        file, damage = rng.choice(files), rng.choice(DAMAGES)
        how = damage.apply(file, rng, other / file.name)
        plan = run([*case.words, *home.words, "env.plan=true"], home.folder)
        ended = run([*case.words, *home.words], home.folder)
        verdict, message = judged(ended, home, {alone.identity: alone.record})
        verdicts = [
            classify(plan, same=True, names=(file.name, folder.name)),
            named(verdict, ended, (file.name,)),
        ]
        message_shown = message or ("" if plan.code == 0 else f"plan: {plan.last_line}")
        return Trial(
            self.title, f"{file.name}: {how}", worst(verdicts), typed(case.words), message_shown
        )
