"""What a command asks for: a run, the machine that it may use, and what is kept and said of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.spec.run import Run


@dataclass(frozen=True)
class Environment:
    """The `env` group: this machine. Never part of an identity.

    Args:
        device: auto, cpu or cuda.
        threads: of torch; None = torch's choice.
        workers: processes that decode images; None = one a thread.
        plan: show what would be done, and do nothing.
        checkpoint_seconds: between two checkpoints of a training; 0 = after every step.
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


@dataclass(frozen=True)
class SavedConfig:
    """A resolved configuration, as it is kept beside the record and shown by loggers.

    Args:
        text: YAML.
        values: the same as plain dicts, lists and scalars.
    """

    text: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """A run as a command asks for it.

    Args:
        config: with `env` and `logger`.
        words: the overrides that the user typed.
        highlights: findings of the method that its closing summary shows.
        paper_training: the choice of `train` that is the method's own setting; None = the first paper's.
        paper_command: what runs the paper's setting, where that is no `python run.py`.
    """

    run: Run
    environment: Environment
    config: SavedConfig
    words: tuple[str, ...] = ()
    highlights: tuple[str, ...] = ()
    paper_training: str | None = None
    paper_command: str | None = None
