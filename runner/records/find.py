"""Locate the record of a run and determine the run's state.

`result.json` is written last: a run without it is not done.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.files import is_held
from runner.paths import PUBLISHED

RECORD = "result.json"
STATES = ("done", "running", "failed", "interrupted", "stopped", "new")


def record_path(results_dir: Path, run_id: str) -> Path:
    """The path of a run's record, which exists once the run is done."""
    return results_dir / "runs" / run_id / RECORD


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record in a run's folder; None if the run is not done."""
    path = folder / RECORD
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


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


def finished_runs(results_dir: Path) -> list[str]:
    """The ids of all finished runs in a results directory, sorted."""
    return sorted(path.parent.name for path in results_dir.glob(f"runs/*/{RECORD}"))


def all_records(results_dir: Path) -> Iterator[dict[str, Any]]:
    """Every record in a results directory, ordered by run id.

    The fixed order makes estimates from the records independent of the file system's.
    """
    for run_id in finished_runs(results_dir):
        yield json.loads(record_path(results_dir, run_id).read_text(encoding="utf-8"))


def results_roots(results_dir: Path) -> list[Path]:
    """The directories to search for records: this machine's results, then the published ones."""
    return [results_dir, PUBLISHED]


def find_folder(run_id: str, roots: Sequence[Path]) -> Path | None:
    """The folder of a finished run in the first root that has it; None if no root has it."""
    paths = (record_path(root, run_id) for root in roots)
    return next((path.parent for path in paths if path.is_file()), None)


def find_record(run_id: str, results_dir: Path) -> dict[str, Any] | None:
    """The record of a run from the `results_roots`; None if no root has it."""
    folder = find_folder(run_id, results_roots(results_dir))
    return read_record(folder) if folder else None
