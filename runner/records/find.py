"""Locate the record of a run and determine the run's state.

`result.json` is written last: a run without it is not done.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.files import is_held
from runner.paths import PUBLISHED

STATES = ("done", "running", "failed", "interrupted", "stopped", "new")


def record_path(results_dir: Path, run_id: str) -> Path:
    """The path of a run's record, which exists once the run is done."""
    return results_dir / "runs" / run_id / "result.json"


def state(results_dir: Path, run_id: str) -> str:
    """The state of a run, one of STATES.

    A run is interrupted if its status file has `running` but no process holds its lock.
    """
    path = record_path(results_dir, run_id)
    if path.is_file():
        return "done"
    if is_held(path.with_name(".lock")):
        return "running"
    try:
        status = str(json.loads(path.with_name("status.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return "new"
    return {"running": "interrupted", "failed": "failed", "stopped": "stopped"}.get(status, "new")


def all_records(results_dir: Path) -> Iterator[dict[str, Any]]:
    """Every record in a results directory, ordered by run id.

    The fixed order makes estimates from the records independent of the file system's.
    """
    for path in sorted(results_dir.glob("runs/*/result.json")):
        yield json.loads(path.read_text())


def results_roots(results_dir: Path) -> list[Path]:
    """The directories to search for records: this machine's results, then the published ones."""
    return [results_dir, PUBLISHED]


def find_record(run_id: str, results_dir: Path) -> dict[str, Any] | None:
    """The record of a run from the `results_roots`; None if no root has it."""
    for root in results_roots(results_dir):
        path = root / "runs" / run_id / "result.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text())
            return record
    return None
