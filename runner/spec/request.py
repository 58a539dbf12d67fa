"""The request of a command: a run, its environment, and what is stored and displayed with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.spec.run import Run


@dataclass(frozen=True)
class Environment:
    """The `env` group: settings of this machine. Never part of an identity.

    Args:
        device: auto, cpu or cuda.
        threads: torch's threads; None = torch's default.
        workers: threads that decode images; None = one for each thread of this process.
        memory_gb: GiB that the graphs of derivatives may take; None = half of what is free.
        save_predictions: whether a finished run keeps its predictions on the test images.
        profile: whether to measure where the time of a run goes.
        plan: only show what would be done.
        checkpoint_seconds: time between two checkpoints of a training; 0 = after every step.
        progress: auto, bar, lines or none.
    """

    device: str
    threads: int | None
    workers: int | None
    results_dir: Path
    cache_dir: Path
    data_dir: Path
    plan: bool
    checkpoint_seconds: float
    progress: str
    memory_gb: float | None = None
    save_predictions: bool = False
    profile: bool = False


@dataclass(frozen=True)
class SavedConfig:
    """A resolved configuration, as stored beside the record and passed to loggers.

    Args:
        text: as YAML.
        values: as plain dicts, lists and scalars.
    """

    text: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """A run as requested by a command.

    Args:
        config: the whole configuration, with `env` and `logger`.
        overrides: those that the user typed.
        highlights: findings of the method that the closing summary shows.
        paper_command: the command that runs the paper's setting; None = no paper has this run.
    """

    run: Run
    environment: Environment
    config: SavedConfig
    overrides: tuple[str, ...] = ()
    highlights: tuple[str, ...] = ()
    paper_command: str | None = None
