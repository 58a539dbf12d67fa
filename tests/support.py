"""What several tests need: a run inside this process."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from runner.build import build_run
from runner.compose import compose_config
from runner.execute import perform
from runner.identity import run_id
from runner.machine import Machine
from runner.progress import Watcher, display
from runner.spec import Run
from runner.store import Artefact, Store
from runner.workbench import Workbench


def machine(folder: Path, results: str = "results", cache: str = "cache") -> Machine:
    """The CPU, with directories under `folder`."""
    return Machine(torch.device("cpu"), folder / results, folder / cache, folder / "data", checkpoint_seconds=60.0, progress="none")


def compose_run(*words: str) -> Run:
    """The run of a command line."""
    return build_run(compose_config(list(words)))


def perform_run(run: Run, where: Machine) -> tuple[dict[str, Any], dict[str, Artefact]]:
    """Run every stage; the record, and each stage's artefact by name."""
    identity = run_id(run)
    watcher = Watcher(where.results_dir / "runs" / identity, display("none", Console()), {"run_id": identity})
    bench = Workbench(run, where, Store(where.cache_dir), watcher)
    record = perform(bench, identity)
    return record, {stage.name: bench.store.load(bench.keys[stage.name]) for stage in run.stages}
