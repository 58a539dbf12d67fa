"""Read records from the folders of runs: `<results_dir>/runs/<run_id>/`.

`result.json` is written last: a run without it is not done.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.records.stored import Record, StoredRun

RECORD = "result.json"
CONFIG = "config.yaml"
SERIES = "series.json"
HISTORY = "metrics.jsonl"


def record_path(results_dir: Path, run_id: str) -> Path:
    """The path of a run's record, which exists once the run is done."""
    return results_dir / "runs" / run_id / RECORD


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder; None if the run is not done."""
    path = folder / RECORD
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    return record


@dataclass(frozen=True)
class RunFolders:
    """The run folders of a results directory."""

    results_dir: Path

    def run_ids(self) -> Iterator[str]:
        """The ids of the finished runs."""
        return (path.parent.name for path in self.results_dir.glob(f"runs/*/{RECORD}"))

    def has(self, run_id: str) -> bool:
        """Whether the run is finished."""
        return record_path(self.results_dir, run_id).is_file()

    def record(self, run_id: str) -> Record | None:
        """The record of a run; None if it is not done."""
        return read_record(record_path(self.results_dir, run_id).parent)

    def run(self, run_id: str) -> StoredRun | None:
        """Everything in a finished run's folder; None if the run is not done."""
        record = self.record(run_id)
        if record is None:
            return None
        folder = record_path(self.results_dir, run_id).parent
        return StoredRun(
            record,
            _text(folder / CONFIG),
            json.loads(_text(folder / SERIES) or "{}"),
            [json.loads(row) for row in _text(folder / HISTORY).splitlines()],
        )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
