"""Helpers of several tests: run inside this process."""

from pathlib import Path
from typing import Any

import torch

from runner.commands.contract import performed
from runner.config.build import build_plain, build_run
from runner.config.compose import Composer, compose_in_full
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.machine import Machine
from runner.engine.stages import run_stage
from runner.engine.store import Artefact, Store
from runner.errors import Stopped
from runner.faults.made_masks import file_words
from runner.spec.run import Run

COMPOSER = Composer()


def machine(folder: Path, results: str = "results", cache: str = "cache") -> Machine:
    """The CPU, with directories under `folder`."""
    return Machine(
        torch.device("cpu"),
        folder / results,
        folder / cache,
        folder / "data",
        checkpoint_seconds=60.0,
        progress="none",
    )


def compose_run(*overrides: str) -> Run:
    """The run of a command line, composed as tables compose their runs; faster than in full."""
    return build_plain(COMPOSER.plain(list(overrides)))


def compose_run_in_full(*overrides: str) -> Run:
    """The run of a command line, composed as the command line does."""
    return build_run(compose_in_full(list(overrides)))


def needed(folder: Path, *overrides: str, density: float = 0.3) -> list[str]:
    """Overrides that name made files, for methods that read masks from a file."""
    return list(file_words(overrides, folder, density, COMPOSER))


def perform_run(run: Run, where: Machine) -> tuple[dict[str, Any], dict[str, Artefact]]:
    """Run all stages and return the record and the artefact of each stage by name."""
    return performed(run, where)


def run_with_stops(
    overrides: list[str], folder: Path, every: int
) -> tuple[dict[str, Artefact], dict[str, Artefact], int]:
    """The stages of an uninterrupted run and of one that is stopped after every `every` steps, and
    the number of stops."""
    run = compose_run(*overrides)
    _, whole = perform_run(run, machine(folder, cache="whole"))
    where = machine(folder, cache="parts")
    context = RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )
    steps = iter(range(1, 100_000))
    context.stop = lambda: next(steps) % every == 0
    stops = 0
    for stage in run.stages:
        while True:
            try:
                run_stage(context, stage)
                break
            except Stopped:
                stops += 1
    return (
        whole,
        {stage.name: context.store.load(context.keys[stage.name]) for stage in run.stages},
        stops,
    )


def same(one: Artefact, other: Artefact) -> bool:
    """Whether two artefacts are equal to the bit: weights, masks, momentum, findings, history."""
    pairs = [
        (getattr(one, part), getattr(other, part)) for part in ("weights", "masks", "optimizer")
    ]
    equal = all(
        a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())
        for a, b in pairs
    )
    return equal and all(one.meta[key] == other.meta[key] for key in ("report", "history"))
