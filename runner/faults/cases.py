"""Small runs of every method, what an undisturbed run leaves, and copies of that to damage."""

import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

from runner.config.build import build_plain
from runner.config.compose import Composer, method_names
from runner.engine.record import comparable, final_stage
from runner.errors import ConfigError
from runner.faults.lab import Command, Terms, run, start
from runner.faults.made_masks import file_words
from runner.faults.trial import Left
from runner.records.find import record_in
from runner.records.folders import RECORD
from runner.spec.record import Record, RecordedStage

# 1,184 weights, two epochs of twelve steps, a checkpoint after each
TINY = (
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.0125",
    "train.lr=0.05",
    "env.device=cpu",
    "env.threads=1",
    "env.progress=none",
    "env.checkpoint_seconds=0",
)
ENOUGH, AGAIN = 10, 0.85  # undisturbed runs that are used again, and how often
# Those that a method does not take are left out.
VARIANTS = (
    "",
    "density=0.3",
    "start=dense retrain=rewind",
    "density=0.3 retrain=finetune",
    "density=0.3 retrain=reinit",
    "density=0.3 start=dense retrain=rewind",
    "density=0.3 start=dense retrain=finetune",
    "density=0.3 retrain=lr_rewind",
    "density=0.3 start=dense retrain=lr_rewind",
    "density=0.3 portrait=weights",
)


@dataclass(frozen=True)
class Case:
    """One configuration of a run: the words of its command line."""

    words: tuple[str, ...]

    @property
    def reads_masks(self) -> bool:
        """Whether it names a made file of masks, which fits the data set of this case alone."""
        return any(word.endswith(".safetensors") for word in self.words)

    def but(self, *words: str) -> "Case":
        """The same with other values of these keys."""
        keys = {word.partition("=")[0] for word in words}
        kept = [word for word in self.words if word.partition("=")[0] not in keys]
        return Case((*kept, *words))

    def seeded(self, seed: int) -> "Case":
        """The same with another seed."""
        return Case((*self.words, f"seed={seed}"))


def candidates(folder: Path, composer: Composer) -> list[Case]:
    """Every variant of every method, also those that a method does not take.

    Args:
        folder: for made files of masks.
    """
    found = []
    for name in method_names():
        method = (f"method={name}", *TINY)
        files = file_words(method, folder, 0.3, composer)
        found += [Case((method[0], *variant.split(), *TINY, *files)) for variant in VARIANTS]
    return found


@dataclass(frozen=True)
class Home:
    """The folders of a run."""

    folder: Path

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.folder / "results"

    @property
    def cache(self) -> Path:
        """The folder of the cache."""
        return self.folder / "cache"

    @property
    def words(self) -> list[str]:
        """Overrides that select these folders."""
        return [
            f"env.results_dir={self.results}",
            f"env.cache_dir={self.cache}",
            f"env.data_dir={self.folder / 'data'}",
        ]

    def start(self, case: Case, *more: str, terms: Terms | None = None) -> Command:
        """Start the run of a case."""
        return start([*case.words, *self.words, *more], self.folder, terms or Terms())

    def records(self) -> dict[str, Left]:
        """What must be equal in each record, by run id; `unreadable` for a damaged record."""
        return {path.parent.name: _left(path) for path in self.results.glob(f"runs/*/{RECORD}")}


def _left(path: Path) -> Left:
    """The comparable part of a record and the series beside it."""
    try:
        series = path.with_name("series.json")
        record: Record = json.loads(path.read_text())
        return {**comparable(record), "series": series.read_text() if series.is_file() else ""}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"unreadable": str(error)}


@dataclass(frozen=True)
class Alone:
    """An undisturbed run.

    Args:
        record: what it left.
        stages: as its record has them.
        seconds: how long it took.
    """

    home: Home
    identity: str
    record: Left
    stages: Sequence[RecordedStage]
    seconds: float

    @property
    def keys(self) -> list[str]:
        """The keys of its stages, in order."""
        return [stage["key"] for stage in self.stages]


@dataclass
class Stock:
    """Undisturbed runs, each made once, and new folders for trials."""

    folder: Path
    seed: int = 0  # of the cases that are drawn often
    made: dict[Case, Alone] = field(default_factory=dict)
    halves: dict[Case, Home | None] = field(default_factory=dict)
    known: dict[Case, bool] = field(default_factory=dict)
    count: int = 0

    @cached_property
    def composer(self) -> Composer:
        """Composes all cases."""
        return Composer()

    @cached_property
    def candidates(self) -> list[Case]:
        """Every variant of every method."""
        return candidates(self.folder / "masks", self.composer)

    def takes(self, case: Case) -> bool:
        """Whether the method takes these options."""
        if case not in self.known:
            try:
                build_plain(self.composer.plain(list(case.words)))
                self.known[case] = True
            except ConfigError:
                self.known[case] = False
        return self.known[case]

    def result_of(self, case: Case) -> int:
        """The place among its stages of the one whose weights are the result."""
        run = build_plain(self.composer.plain(list(case.words)))
        names = [stage.name for stage in run.stages]
        return names.index(final_stage(run) or names[-1])

    @cached_property
    def often(self) -> list[Case]:
        """The cases that are drawn often, of different methods; whatever was made before."""
        rng = Random(f"{self.seed} often")
        return [self.of_method(name, rng) for name in rng.sample(self.methods, ENOUGH)]

    @cached_property
    def methods(self) -> list[str]:
        """All methods."""
        return method_names()

    def of_method(self, name: str, rng: Random) -> Case:
        """A random variant of a method."""
        mine = [case for case in self.candidates if case.words[0] == f"method={name}"]
        while not self.takes(case := rng.choice(mine)):
            pass
        return case

    def draw(self, rng: Random) -> Case:
        """A random case, mostly one whose undisturbed run is there already."""
        if rng.random() < AGAIN:
            return rng.choice(self.often)
        return self.of_method(rng.choice(self.methods), rng)

    def empty(self) -> Home:
        """A new folder."""
        self.count += 1
        home = Home(self.folder / f"trial-{self.count}")
        home.folder.mkdir(parents=True)
        return home

    def alone(self, case: Case) -> Alone:
        """The undisturbed run of a case."""
        if case not in self.made:
            home, started = self.empty(), time.monotonic()
            ended = run([*case.words, *home.words], home.folder)
            records = home.records()
            if ended.code != 0 or len(records) != 1:
                raise RuntimeError(f"{' '.join(case.words)}: {ended.output}")
            ((identity, record),) = records.items()
            taken, whole = time.monotonic() - started, record_in([home.results], identity)
            assert whole is not None  # `records` has read it
            self.made[case] = Alone(home, identity, record, whole["stages"], taken)
        return self.made[case]

    def finished(self, case: Case) -> Home:
        """A copy of the folders of an undisturbed run."""
        return self._copy(self.alone(case).home)

    def half_done(self, case: Case) -> Home | None:
        """A copy of the folders of a run that was killed while it had a checkpoint.

        None if the run has no checkpoint for long enough.
        """
        if case not in self.halves:
            self.halves[case] = self._interrupted(case)
        half = self.halves[case]
        return half and self._copy(half)

    def _interrupted(self, case: Case) -> Home | None:
        for _ in range(3):
            home = self.empty()
            command = home.start(case)
            until = time.monotonic() + 60
            while command.code is None and time.monotonic() < until:
                if list(home.cache.glob("checkpoints/*.pt")):
                    command.send(signal.SIGKILL)
                    break
                time.sleep(0.005)
            command.wait()
            if list(home.cache.glob("checkpoints/*.pt")) and not home.records():
                return home
        return None

    def _copy(self, home: Home) -> Home:
        new = self.empty()
        for name in ("results", "cache"):
            if (home.folder / name).is_dir():
                shutil.copytree(home.folder / name, new.folder / name)
        return new


def discard(home: Home) -> None:
    """Remove the folders of a trial."""
    shutil.rmtree(home.folder, ignore_errors=True)
