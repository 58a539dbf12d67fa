"""Where the record of a run is, and the state of a run. `result.json` is written last: a run without it is not done."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.files import is_held
from runner.paths import PUBLISHED

STATES = ("done", "running", "failed", "interrupted", "stopped", "new")


def record_path(results_dir: Path, run_id: str) -> Path:
    """Where the run's record is, once it is done."""
    return results_dir / "runs" / run_id / "result.json"


def state(results_dir: Path, run_id: str) -> str:
    """One of STATES. A run whose status says running although no process holds its lock was interrupted."""
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
    """Every record under a directory of results, by run id: an estimate made of them does not depend on the disk."""
    for path in sorted(results_dir.glob("runs/*/result.json")):
        yield json.loads(path.read_text())


def results_roots(results_dir: Path) -> list[Path]:
    """Where records are looked up: this machine's results first, then those that we ship."""
    return [results_dir, PUBLISHED]


def find_record(run_id: str, results_dir: Path) -> dict[str, Any] | None:
    """The record of a run, from this machine's results or from those that we ship."""
    for root in results_roots(results_dir):
        path = root / "runs" / run_id / "result.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text())
            return record
    return None
