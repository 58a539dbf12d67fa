"""An index of the records in run folders, from which thousands of them are read quickly.

The file `<results_dir>/.records` has one line for each record that was valid when it was read: the
size, the time and the inode of the files of its run, and the record. A line counts only while all
of these are still the same; otherwise the files are read and verified as without an index. The
file can be deleted at any time. It is replaced as a whole, so that readers see a complete one;
where it cannot be written, there is none.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from runner.files import write_bytes
from runner.records import fields, valid
from runner.records.stored import StoredRun
from runner.spec import record as declared
from runner.spec import record_values
from runner.spec.record import Record

RECORD = "result.json"
SEALED = ("series.json", "metrics.jsonl")  # by the record, which has their checksums
CONFIG = "config.yaml"
NAME = ".records"  # of the index
FEW = 50  # records that are read again rather than written to the index
# A file can change twice within one tick of its file system's clock: 2 s on FAT.
SETTLED = 2_000_000_000  # ns since the last change, after which a file's time tells a change
LINE = re.compile(rb'\{"run_id":"([^"\\]+)","stamps":(\[.*?\]),"record":(\{.*\})\} ([0-9a-f]{16})')

Stamp: TypeAlias = list[int]  # size, time of the last change in ns, inode; [] without a file


@dataclass
class Index:
    """The index of a results directory.

    Args:
        path: its file.
        lines: run id -> its line, as it was read or will be written.
        added: number of lines that the file does not have.
    """

    path: Path
    lines: dict[str, bytes] = field(default_factory=dict)
    added: int = 0

    def record(self, path: Path, read: Callable[[], StoredRun | None]) -> Record | None:
        """The record of a run; None if the run is not done.

        Args:
            path: that of the run's result.json.
            read: reads and verifies the run.
        """
        stamps = [_stamp(path), *(_stamp(path.with_name(name)) for name in (*SEALED, CONFIG))]
        if not stamps[0]:
            return None
        run_id = path.parent.name
        known = _parse(self.lines.get(run_id, b""))
        if known and known[0] == stamps:
            return known[1]
        run = read()
        if run is not None and _settled(stamps):
            self.lines[run_id] = _line(run_id, stamps, run.record)
            self.added += 1
        return run.record if run else None

    def save(self) -> None:
        """Write the file if it lacks many lines. Runs without a folder are left out."""
        if self.added < FEW:
            return
        with contextlib.suppress(OSError):  # nothing depends on it
            there = {folder.name for folder in self.path.with_name("runs").iterdir()}
            lines = (line for run_id, line in sorted(self.lines.items()) if run_id in there)
            write_bytes(self.path, b"\n".join([_rules(), *lines, b""]))
            self.added = 0


@lru_cache(maxsize=8)
def index_of(results_dir: Path) -> Index:
    """The index of a results directory, empty if its file is missing or of other rules.

    It is read once in a process. Each line is compared with the run's files when it is used.
    """
    path = results_dir / NAME
    try:
        rules, *lines = path.read_bytes().split(b"\n")
    except OSError:
        return Index(path)
    if rules != _rules():
        return Index(path)
    found = {match[1].decode(): line for line in lines if (match := LINE.fullmatch(line))}
    return Index(path, found)


@contextmanager
def indexed(results_dir: Path) -> Iterator[None]:
    """Keep the index of the records that are read within this context."""
    yield
    index_of(results_dir).save()


@lru_cache(maxsize=1)
def _rules() -> bytes:
    """The first line: which rules made the records valid."""
    modules = (fields, declared, record_values, valid)
    rules = (Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(b"".join(rules)).hexdigest().encode()


def _line(run_id: str, stamps: list[Stamp], record: Record) -> bytes:
    """A line, with a checksum of what is before it."""
    parts = {"run_id": run_id, "stamps": stamps, "record": record}
    body = json.dumps(parts, separators=(",", ":"), ensure_ascii=True).encode()
    return body + b" " + _checksum(body)


def _parse(line: bytes) -> tuple[list[Stamp], Record] | None:
    """Stamps and record of a line; None if it is not as it was written."""
    match = LINE.fullmatch(line)
    if match is None or _checksum(line[: match.end(3) + 1]) != match[4]:
        return None
    stamps: list[Stamp] = json.loads(match[2])
    record: Record = json.loads(match[3])
    return stamps, record


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _settled(stamps: list[Stamp]) -> bool:
    """Whether a further change of the files will change their stamps."""
    newest = max(stamp[1] for stamp in stamps if stamp)
    return newest + SETTLED < time.time_ns()
