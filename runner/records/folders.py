"""Read and write records in the folders of runs: `<results_dir>/runs/<run_id>/`.

`result.json` is written last: a run without it is not done. It is sealed by `provenance.checksum`,
and its `provenance.files` seal series.json and metrics.jsonl. A run whose files are not valid
(runner/records/valid.py) or not as they were written is not done; a line on standard error names
the file.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from runner.errors import Damaged
from runner.files import read_bytes, set_aside, sha256, write_json
from runner.records import index
from runner.records.stored import StoredRun, leave_out
from runner.records.valid import (
    problem_of,
    problem_of_config,
    problem_of_rows,
    problem_of_series,
    stated_in,
    strict_json,
)
from runner.spec.record import Record
from runner.streams import say

RECORD, CONFIG = index.RECORD, index.CONFIG
SERIES, HISTORY = index.SEALED
# Keys of a record's provenance; earlier records have neither.
CHECKSUM: Final = "checksum"
FILES: Final = "files"

T = TypeVar("T")


def record_path(results_dir: Path, run_id: str) -> Path:
    """The path of a run's record, which exists once the run is done."""
    return results_dir / "runs" / run_id / RECORD


def seal(record: Record) -> Record:
    """The record with the checksum of its content."""
    provenance = record["provenance"].copy()
    provenance.pop(CHECKSUM, None)  # the new one is the last key
    return {**record, "provenance": {**provenance, CHECKSUM: _checksum(record)}}


def _checksum(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record without its checksum, valid or not.

    It is that of canonical JSON: sorted keys, no spaces, every digit of a number.
    """
    provenance = {key: value for key, value in record["provenance"].items() if key != CHECKSUM}
    content = {**record, "provenance": provenance}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode(errors="backslashreplace"))


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
        Damaged: it is not as it was written, or it is not the valid record of this run.
    """
    if not path.exists() and not path.is_symlink():
        return None
    record = _parse(path, read_bytes(path))
    checksum = _provenance(record).get(CHECKSUM)
    if checksum is not None and _checksum(record) != checksum:
        raise Damaged(path, "its checksum is not that of its content")
    if problem := problem_of(record, path.parent.name):
        raise Damaged(path, problem)
    valid: Record = record
    return valid


def parse_run(path: Path) -> StoredRun | None:
    """Everything in the folder of a run's result.json; None if there is no record.

    Raises:
        Damaged: one of the files is not valid, or not as it was written.
    """
    record = parse_record(path)
    if record is None:
        return None
    series, history = (_sealed(path.with_name(name), record) for name in index.SEALED)
    numbers = _parse(path.with_name(SERIES), series or b"{}")
    rows = [_parse(path.with_name(HISTORY), row) for row in history.splitlines()]
    config = _text(path.with_name(CONFIG))
    for name, problem in (
        (SERIES, problem_of_series(numbers)),
        (HISTORY, problem_of_rows(rows)),
        (RECORD, problem_of_config(stated_in(config), record)),
    ):
        if problem:
            raise Damaged(path.with_name(name), problem)
    return StoredRun(record, config, numbers, rows)


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder; None if the run is not done."""
    return _valid(parse_record, folder / RECORD)


def read_run(folder: Path) -> StoredRun | None:
    """Everything in a finished run's folder; None if the run is not done."""
    return _valid(parse_run, folder / RECORD)


def _valid(parse: Callable[[Path], T | None], path: Path) -> T | None:
    """What `parse` returns; None, and one line about the reason, where it cannot be read."""
    try:
        return parse(path)
    except Damaged as error:
        leave_out(str(error))
    except OSError as error:
        leave_out(f"{path} cannot be read: {error.strerror or error}")
    return None


@dataclass(frozen=True)
class RunFolders:
    """The run folders of a results directory."""

    results_dir: Path

    def run_ids(self) -> Iterator[str]:
        """The ids of the runs with a record, which can be damaged."""
        return (path.parent.name for path in self.results_dir.glob(f"runs/*/{RECORD}"))

    def has(self, run_id: str) -> bool:
        """Whether the run is finished and its files are valid."""
        return self.run(run_id) is not None

    def record(self, run_id: str) -> Record | None:
        """The record of a run; None if it is not done. Read from the index where that is valid."""
        path = record_path(self.results_dir, run_id)
        return index.index_of(self.results_dir).record(path, lambda: read_run(path.parent))

    def place(self, run_id: str) -> tuple[Path, int] | None:
        """The path of result.json, and its first line; None if the run is not done."""
        found = self.record(run_id)
        return (record_path(self.results_dir, run_id), 1) if found else None

    def run(self, run_id: str) -> StoredRun | None:
        """Everything in a finished run's folder; None if the run is not done."""
        return read_run(record_path(self.results_dir, run_id).parent)


def _provenance(record: Any) -> Mapping[str, Any]:
    """The provenance of anything that may be a record; {} if it has none."""
    found = record.get("provenance") if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def _sealed(path: Path, record: Record) -> bytes:
    """The content of a file beside a record, compared with the record where it seals the file."""
    files = record["provenance"].get(FILES)
    expected = None if files is None else files.get(path.name)
    if expected is None and (files is not None or not path.exists()):
        return b""
    content = read_bytes(path)
    if expected is not None and sha256(content) != expected:
        raise Damaged(path, "its SHA-256 is not the one in result.json")
    return content


def _parse(path: Path, content: bytes) -> Any:
    try:
        return strict_json(content)
    except (ValueError, RecursionError) as error:
        problem = f"it is no JSON ({error})" if content.strip() else "it is empty"
        raise Damaged(path, problem) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
