"""Read and write packed records: `<results_dir>/records/*.jsonl`, one finished run per line.

A line is a JSON object with the keys `run_id`, `config`, `record`, optionally `series` and
`history`, and `checksum`. The lines of a file are sorted by run id. A run may be in several files;
its record is the same in each, but only the files of figures that draw them contain its series and
its history.

The files are scanned once per process for the positions of the runs. Only the requested lines are
parsed, and the checksum and the record of each are verified. Readers leave out what is not valid
and name it; `read_lines` and `write_lines`, with which files are published, refuse it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from runner.errors import ConfigError
from runner.files import atomically
from runner.records.stored import StoredRun, leave_out
from runner.records.valid import (
    problem_of,
    problem_of_config,
    problem_of_rows,
    problem_of_series,
    stated,
    strict_json,
)
from runner.spec.record import Config, Line, Record

RUN_ID = re.compile(rb'\{"run_id":"([^"\\]+)","config":')  # the start of every line
CHECKSUM = re.compile(rb',"checksum":"([0-9a-f]{16})"\}$')  # the end of every line
NO_HEAD = "it does not begin with run_id and config"


@dataclass(frozen=True)
class Place:
    """The position of a line in a file.

    Args:
        number: counted from 1.
        start: offset of its first byte.
        size: bytes without the line feed.
    """

    path: Path
    number: int
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes of the line."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def damaged(self, problem: str) -> ConfigError:
        """The error for a line that is not as it was written."""
        return ConfigError(
            f"{self.path}, line {self.number}: damaged record, {problem}; restore the file, e.g."
            f" git checkout -- {self.path}"
        )


Places: TypeAlias = Mapping[str, tuple[Place, ...]]


@dataclass(frozen=True)
class PackedRecords:
    """The packed records of a results directory."""

    results_dir: Path

    @property
    def folder(self) -> Path:
        """The directory of the files."""
        return self.results_dir / "records"

    def run_ids(self) -> Iterable[str]:
        """The ids of the runs in all files."""
        return self._places()

    def has(self, run_id: str) -> bool:
        """Whether a file has a valid line of the run."""
        return self.record(run_id) is not None

    def record(self, run_id: str) -> Record | None:
        """The record of a run; None if no file has a valid one."""
        line = next(self._valid(run_id), None)
        return line["record"] if line else None

    def place(self, run_id: str) -> tuple[Path, int] | None:
        """The first file that has the run, and the line; None if no file has it."""
        places = self._places().get(run_id)
        return (places[0].path, places[0].number) if places else None

    def run(self, run_id: str) -> StoredRun | None:
        """Everything that the files have of a run; None if no file has a valid line of it."""
        lines = list(self._valid(run_id))
        if not lines:
            return None
        series = {key: numbers for line in lines for key, numbers in line.get("series", {}).items()}
        history = next((line["history"] for line in lines if "history" in line), [])
        config = json.dumps(lines[0]["config"], ensure_ascii=False)
        return StoredRun(lines[0]["record"], config, series, history)

    def _valid(self, run_id: str) -> Iterator[Line]:
        """The valid lines of a run; each of the others is named."""
        for place in self._places().get(run_id, ()):
            try:
                yield _parse(place, run_id)
            except ConfigError as error:
                leave_out(str(error))
            except OSError as error:
                leave_out(f"{place.path} cannot be read: {error.strerror or error}")

    def _places(self) -> Places:
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return {}
        return _scan(self.folder, changed)


@lru_cache(maxsize=8)
def _scan(folder: Path, changed: int) -> Places:
    """Run id -> its places in the files of a folder. `changed`: time of the folder's last change.

    Files are replaced, never modified, so the folder's time changes with them.
    """
    found: dict[str, tuple[Place, ...]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = list(_lines(path, path.read_bytes()))
        except OSError as error:
            leave_out(f"{path} cannot be read: {error.strerror or error}")
            continue
        for run_id, place in lines:
            if run_id is None:
                leave_out(str(place.damaged(NO_HEAD)))
            else:
                found[run_id] = (*found.get(run_id, ()), place)
    return found


def _lines(path: Path, content: bytes) -> Iterator[tuple[str | None, Place]]:
    """The run id and the place of each line of a file; None where a line does not begin with it."""
    start = 0
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        head = RUN_ID.match(line)
        yield (
            head[1].decode(errors="replace") if head else None,
            Place(path, number, start, len(line)),
        )
        start += len(line) + 1


def _all_lines(path: Path) -> Iterator[tuple[str, Place]]:
    """The run id and the place of each line of a file; none if there is no file.

    Raises:
        ConfigError: a line does not begin as it must.
    """
    for run_id, place in _lines(path, path.read_bytes() if path.is_file() else b""):
        if run_id is None:
            raise place.damaged(NO_HEAD)
        yield run_id, place


def _parse(place: Place, run_id: str) -> Line:
    """The content of a line, after its checksum and its run id were verified.

    Raises:
        ConfigError: the line is damaged.
    """
    line = place.read()
    found = CHECKSUM.search(line)
    if found is None:
        raise place.damaged("it does not end with a checksum")
    computed = _checksum(line[: found.start()])
    if computed != found[1].decode():
        raise place.damaged(f"its checksum is {computed}, not {found[1].decode()}")
    try:
        content = strict_json(line)
    except (ValueError, RecursionError) as error:
        raise place.damaged(f"it is no JSON ({error})") from None
    if problem := _problem(content, run_id):
        raise place.damaged(problem)
    valid: Line = content
    return valid


def _problem(content: Mapping[str, Any], run_id: str) -> str | None:
    """Why the content of a line is not valid; None if it is. Its checksum was verified."""
    record = content.get("record")
    return (
        (None if content["run_id"] == run_id else f"it is that of {content['run_id']}")
        or problem_of(record, run_id)
        or problem_of_config(stated(content["config"]), record or {})
        or problem_of_series(content.get("series", {}))
        or problem_of_rows(content.get("history", []))
    )


def _checksum(content: bytes) -> str:
    """The first 16 hex digits of the SHA-256 of a line before its checksum."""
    return hashlib.sha256(content).hexdigest()[:16]


def as_line(run: StoredRun, config: Config) -> bytes:
    """A run's line without the line feed. Floats are written so that they are read back exactly.

    Args:
        config: the run's configuration. YAML cannot be read in this package.
    """
    content = {
        "run_id": run.run_id,
        "config": config,
        "record": run.record,
        **({"series": run.series} if run.series else {}),
        **({"history": list(run.history)} if run.history else {}),
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = text.removesuffix("}").encode()
    return body + f',"checksum":"{_checksum(body)}"}}'.encode()


def read_lines(path: Path) -> dict[str, Line]:
    """The content of each line of a packed file by run id; empty if there is no file.

    Raises:
        ConfigError: a line is damaged.
    """
    return {run_id: _parse(place, run_id) for run_id, place in _all_lines(path)}


def write_lines(path: Path, lines: Mapping[str, bytes]) -> None:
    """Put lines by run id into a packed file, sorted by run id; its other lines are unchanged.

    Raises:
        ConfigError: a line of the file is damaged.
    """
    content = path.read_bytes() if path.is_file() else b""
    own = {run_id: place.read() for run_id, place in _all_lines(path)}
    merged = b"".join(line + b"\n" for _, line in sorted({**own, **lines}.items()))
    if merged != content:
        atomically(path, partial(_write, content=merged))
        _scan.cache_clear()  # the folder's time can be too coarse for two changes in succession


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
