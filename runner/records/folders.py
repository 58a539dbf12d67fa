"""Read and write records in the folders of runs: `<results_dir>/runs/<run_id>/`.

`result.json` is written last: a run without it is not done. It is sealed by `provenance.checksum`,
and its `provenance.files` seal series.json and metrics.jsonl. A run whose files are not as they
were written is not done; a line on standard error names the file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.errors import Damaged
from runner.files import read_bytes, set_aside, sha256, write_json
from runner.records.stored import Record, StoredRun
from runner.streams import say

RECORD = "result.json"
CONFIG = "config.yaml"
SERIES = "series.json"
HISTORY = "metrics.jsonl"
CHECKSUM, FILES = "checksum", "files"  # in a record's provenance; earlier records have neither


def record_path(results_dir: Path, run_id: str) -> Path:
    """The path of a run's record, which exists once the run is done."""
    return results_dir / "runs" / run_id / RECORD


def seal(record: Record) -> Record:
    """The record with the checksum of its content."""
    provenance = {k: v for k, v in record.get("provenance", {}).items() if k != CHECKSUM}
    unsealed = {**record, "provenance": provenance}
    return {**record, "provenance": {**provenance, CHECKSUM: _checksum(unsealed)}}


def _checksum(content: Any) -> str:
    """The SHA-256 of canonical JSON: sorted keys, no spaces, every digit of a number."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode())


def write_record(path: Path, record: Record) -> None:
    """Write a run's record, sealed, which makes the run done."""
    write_json(path, seal(record))


def set_aside_record(path: Path) -> None:
    """Rename a record that is not as it was written, and print that; leave any other record."""
    try:
        parse_record(path)
    except Damaged as error:
        if path.exists() or path.is_symlink():
            say(f"{error}; moved to {set_aside(path)}; the run is computed again")


def parse_record(path: Path) -> Record | None:
    """The record in a run's result.json; None if there is none.

    Raises:
        Damaged: it is not as it was written, or that of another run.
    """
    if not path.exists() and not path.is_symlink():
        return None
    record = _parse(path, read_bytes(path))
    if not isinstance(record, dict) or not isinstance(record.get("provenance", {}), dict):
        raise Damaged(path, "it is not the record of a run")
    checksum = record.get("provenance", {}).get(CHECKSUM)
    if checksum is not None and seal(record)["provenance"][CHECKSUM] != checksum:
        raise Damaged(path, "its checksum is not that of its content")
    if record.get("run_id") != path.parent.name:
        raise Damaged(path, f"it is the record of run_id={record.get('run_id')}")
    return record


def parse_run(path: Path) -> StoredRun | None:
    """Everything in the folder of a run's result.json; None if there is no record.

    Raises:
        Damaged: one of the files is not as it was written.
    """
    record = parse_record(path)
    if record is None:
        return None
    series, history = (_sealed(path.with_name(name), record) for name in (SERIES, HISTORY))
    numbers = _parse(path.with_name(SERIES), series or b"{}")
    rows = [_parse(path.with_name(HISTORY), row) for row in history.splitlines()]
    return StoredRun(record, _text(path.with_name(CONFIG)), numbers, rows)


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder; None if the run is not done."""
    try:
        return parse_record(folder / RECORD)
    except Damaged as error:
        _name(str(error))
        return None


def read_run(folder: Path) -> StoredRun | None:
    """Everything in a finished run's folder; None if the run is not done."""
    try:
        return parse_run(folder / RECORD)
    except Damaged as error:
        _name(str(error))
        return None


@lru_cache(maxsize=4096)  # a command reads a record several times
def _name(problem: str) -> None:
    say(f"{problem}; the run counts as not done")


@dataclass(frozen=True)
class RunFolders:
    """The run folders of a results directory."""

    results_dir: Path

    def run_ids(self) -> Iterator[str]:
        """The ids of the runs with a record, which can be damaged."""
        return (path.parent.name for path in self.results_dir.glob(f"runs/*/{RECORD}"))

    def has(self, run_id: str) -> bool:
        """Whether the run is finished and its files are as they were written."""
        return self.run(run_id) is not None

    def record(self, run_id: str) -> Record | None:
        """The record of a run; None if it is not done."""
        return read_record(record_path(self.results_dir, run_id).parent)

    def place(self, run_id: str) -> tuple[Path, int] | None:
        """The path of result.json, and its first line; None if the run is not done."""
        found = self.record(run_id)
        return (record_path(self.results_dir, run_id), 1) if found else None

    def run(self, run_id: str) -> StoredRun | None:
        """Everything in a finished run's folder; None if the run is not done."""
        return read_run(record_path(self.results_dir, run_id).parent)


def _sealed(path: Path, record: Record) -> bytes:
    """The content of a file beside a record, compared with the record where it seals the file."""
    files = record.get("provenance", {}).get(FILES)
    expected = None if files is None else files.get(path.name)
    if expected is None and (files is not None or not path.exists()):
        return b""
    content = read_bytes(path)
    if expected is not None and sha256(content) != expected:
        raise Damaged(path, "its SHA-256 is not the one in result.json")
    return content


def _parse(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        problem = f"it is no JSON ({error})" if content.strip() else "it is empty"
        raise Damaged(path, problem) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
