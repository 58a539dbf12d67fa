"""Files that other processes read or write at the same time: atomic writes and locks."""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


@contextmanager
def held(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; call `waiting` once, with who holds it, if somebody else does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting(_holder(path))
        lock.acquire()
    try:
        path.with_suffix(".holder").write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file. Tried by taking it for an instant; a lock file that is not there is not made."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, rename it: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """To the disk, so that a power cut leaves no renamed file with nothing in it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what a process that was killed in `atomically` left behind. For whoever holds the lock on these files."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 32}"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    atomically(path, lambda p: p.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"))


def _holder(path: Path) -> str:
    try:
        return path.with_suffix(".holder").read_text()
    except FileNotFoundError:
        return "another process"
