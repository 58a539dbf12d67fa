"""Find the record of a run in run folders and packed files, and determine the run's state."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from runner.locks import is_held
from runner.paths import PUBLISHED
from runner.records.folders import RunFolders, record_path
from runner.records.packed import PackedRecords
from runner.records.stored import Source, StoredRun
from runner.records.wanted import NOTHING, Wanted
from runner.spec.findings import DIVERGED, is_diverged
from runner.spec.record import Record

FINISHED = ("done", DIVERGED)  # the states of runs with a record
UNFINISHED = ("failed", "interrupted", "stopped", "new")
STATES = (*FINISHED, "running", *UNFINISHED)


def sources(*roots: Path) -> list[Source]:
    """The places with records in results directories: of each, run folders, then packed files."""
    return [source for root in roots for source in (RunFolders(root), PackedRecords(root))]


def results_roots(results_dir: Path) -> list[Path]:
    """The directories to search for records: this machine's results, then the published ones."""
    return [results_dir, PUBLISHED]


def is_done(results_dir: Path, run_id: str, wanted: Wanted = NOTHING) -> bool:
    """Whether a results directory has the record of a run, in a folder or packed.

    A run that diverged is done: running it again gives the same record.

    Args:
        wanted: what is requested besides.
    """
    if wanted:
        return wanted.complete(run_in([results_dir], run_id))
    return record_in([results_dir], run_id) is not None


def state(results_dir: Path, run_id: str, wanted: Wanted = NOTHING) -> str:
    """The state of a run, one of STATES.

    A run is interrupted if its status file has `running` but no process holds its lock.

    Args:
        wanted: what is requested besides; a record without it is not done.
    """
    path = record_path(results_dir, run_id)
    record = record_in([results_dir], run_id)
    if record and (not wanted or is_done(results_dir, run_id, wanted)):
        return DIVERGED if is_diverged(record) else "done"
    if is_held(path.with_name(".lock")):
        return "running"
    try:
        status = str(
            json.loads(path.with_name("status.json").read_text(encoding="utf-8"))["status"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "new"
    return {"running": "interrupted", "failed": "failed", "stopped": "stopped"}.get(status, "new")


def finished_runs(results_dir: Path) -> list[str]:
    """The ids of all finished runs in a results directory, sorted."""
    return [record["run_id"] for record in all_records(results_dir)]


def all_records(results_dir: Path) -> Iterator[Record]:
    """Every record in a results directory, ordered by run id.

    The fixed order makes estimates from the records independent of the file system's.
    """
    run_ids = {*chain.from_iterable(source.run_ids() for source in sources(results_dir))}
    found = (record_in([results_dir], run_id) for run_id in sorted(run_ids))
    return (record for record in found if record is not None)


def record_in(roots: Sequence[Path], run_id: str) -> Record | None:
    """The record of a run from the first of the results directories that has it, or None."""
    found = (source.record(run_id) for source in sources(*roots))
    return next((record for record in found if record is not None), None)


def run_in(roots: Sequence[Path], run_id: str) -> StoredRun | None:
    """As `record_in`, with the run's configuration, series and history."""
    found = (source.run(run_id) for source in sources(*roots))
    return next((run for run in found if run is not None), None)


def place_of(roots: Sequence[Path], run_id: str) -> tuple[Path, int] | None:
    """The file of a run's record and its line there, as `record_in` finds it."""
    found = (source.place(run_id) for source in sources(*roots))
    return next((place for place in found if place is not None), None)


def find_record(run_id: str, results_dir: Path) -> Record | None:
    """The record of a run from the `results_roots`; None if no root has it."""
    return record_in(results_roots(results_dir), run_id)
