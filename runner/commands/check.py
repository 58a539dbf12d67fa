"""`winnow check method=mine`: the contract of methods, networks and data sets, on a small run."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from runner.commands import contract
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.environment import environment_of
from runner.config.overrides import check_words, with_search_path
from runner.config.plain import Plain, to_plain
from runner.config.quoting import literal_paths
from runner.engine.machine import Machine
from runner.engine.store import Artefact
from runner.errors import EXIT_FAILED, ConfigError
from runner.spec.record import Record
from runner.spec.run import Run

# What the run is where the words do not say it: two epochs of a small network on 360 images.
SMALL = {
    "method": "dense",
    "dataset": "digits",
    "model": "mlp",
    "train": "quick",
    "train.scale": "0.0125",
    "train.lr": "0.05",
    "train_fraction": "0.25",
}
DENSITY = "density=0.3"  # of a method that requires one
CHANGES = ("seed=1", "train_fraction=0.5", "train.lr=0.04", "train.batch_size=96")
CHECKED = ("method", "model", "dataset")


@dataclass
class Subject:
    """The small run that is checked.

    Args:
        words: its overrides.
        folder: for its results.
    """

    words: list[str]
    folder: Path

    @cached_property
    def run(self) -> Run:
        """The run."""
        return self.with_words()

    def with_words(self, *more: str) -> Run:
        """The run with further overrides, which take precedence."""
        keys = {word.partition("=")[0] for word in more}
        kept = [word for word in self.words if word.partition("=")[0] not in keys]
        return build_run(compose_config([*kept, *more]))

    @cached_property
    def values(self) -> Plain:
        """Its configuration, in which a node that several keys refer to stands once."""
        return to_plain(compose_config(self.words), resolve=False)

    def machine(self, cache: str = "cache") -> Machine:
        """The CPU with folders of its own, and the user's data."""
        data = environment_of(compose_config(self.words)).data_dir
        results = self.folder / "results"
        return Machine(torch.device("cpu"), results, self.folder / cache, data, 60.0, "none")

    @cached_property
    def first(self) -> tuple[Record, dict[str, Artefact]]:
        """The record and artefacts of the run."""
        return contract.performed(self.run, self.machine())

    def ticket(self, seed: int, cache: str) -> Artefact | None:
        """The result of the run of a seed, computed with a cache of its own."""
        run = self.with_words(f"seed={seed}")
        return contract.ticket_of(run, contract.performed(run, self.machine(cache))[1])


def _density(subject: Subject) -> Iterable[str]:
    record, artefacts = subject.first
    ticket = contract.ticket_of(subject.run, artefacts)
    return () if ticket is None else contract.density(subject.run, record, ticket)


def _repeats(subject: Subject) -> Iterator[str]:
    first, second, other = (subject.ticket(*each) for each in ((3, "a"), (3, "b"), (4, "c")))
    if first and second and other:
        yield from contract.repeats(first, second, other, subject.run.masked_density is not None)


def _model(subject: Subject) -> Iterable[str]:
    return contract.leaves_the_model(subject.run, subject.machine("again"))


def _identity(subject: Subject) -> Iterable[str]:
    moved = subject.with_words(*contract.ELSEWHERE)
    return contract.identity(subject.run, moved, [subject.with_words(each) for each in CHANGES])


def _options(subject: Subject) -> Iterator[str]:
    for group in CHECKED:
        yield from contract.options(subject.values[group], group)


CHECKS: dict[str, Callable[[Subject], Iterable[str]]] = {
    "the YAML lists every option": _options,
    "the network is a function of its generator": lambda it: contract.network(it.run),
    "the data set is as its info says": lambda it: contract.data_set(it.run, it.machine().data_dir),
    "the identity ignores the machine and nothing else": _identity,
    "the density is exact, and pruned weights stay zero": _density,
    "equal seeds give equal bits, other seeds others": _repeats,
    "scores and measurements leave the network unchanged": _model,
}


def check(words: list[str], console: Console) -> int:
    """Check a method, a network, a data set or a combination; 1 if a check fails.

    Args:
        words: overrides of the run; those of `SMALL` that are missing are added.

    Raises:
        ConfigError: the words name no part to check, or the run cannot be built.
    """
    words = literal_paths(with_search_path(words))
    check_words(words)
    given = {word.partition("=")[0] for word in words}
    if not given & set(CHECKED):
        raise ConfigError(
            "winnow check needs a part to check: method=NAME, model=NAME or dataset=NAME"
        )
    words += [f"{key}={value}" for key, value in SMALL.items() if key not in given]
    if "density" not in given and compose_config(words).method.get("density") == "required":
        words.append(DENSITY)
    failed = 0
    with TemporaryDirectory() as folder:
        subject = Subject(words, Path(folder))
        _ = subject.run  # reports an invalid configuration
        for name, find in CHECKS.items():
            problems = _problems(find, subject)
            failed += bool(problems)
            console.print(f"{'FAILED' if problems else 'ok':<8}{name}", soft_wrap=True)
            for problem in problems:
                console.print(f"        {problem}", soft_wrap=True)
    shown = " ".join(word for word in words if not re.match(r"hydra\.", word))
    console.print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks hold for {shown}")
    return EXIT_FAILED if failed else 0


def _problems(find: Callable[[Subject], Iterable[str]], subject: Subject) -> list[str]:
    """What a check finds; a failure of the part's own code is a problem, too."""
    try:
        return list(find(subject))
    except ConfigError:
        raise
    except Exception as error:  # of the code that is checked
        return [f"{type(error).__name__}: {error}"]
