"""Helpers of several tests: run inside this process."""

from pathlib import Path
from typing import Any

import torch

from runner.commands.contract import performed
from runner.config.build import build_plain, build_run
from runner.config.compose import Composer, compose_config
from runner.engine.machine import Machine
from runner.engine.store import Artefact
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
    return build_run(compose_config(list(overrides)))


def needed(folder: Path, *overrides: str, density: float = 0.3) -> list[str]:
    """Overrides that name made files, for methods that read masks from a file."""
    return list(file_words(overrides, folder, density, COMPOSER))


def perform_run(run: Run, where: Machine) -> tuple[dict[str, Any], dict[str, Artefact]]:
    """Run all stages and return the record and the artefact of each stage by name."""
    return performed(run, where)
