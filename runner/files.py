"""Atomic writes and locks for files that several processes use at the same time."""

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
    """Hold a lock file; if another process holds it, call `waiting` with its name and wait."""
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
    """Whether a process holds the lock file.

    The test acquires and releases the lock. It does not create a missing lock file.
    """
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
    """Write a file so that readers see either the old or the new content.

    `write` receives a temporary name in the same folder. The file is flushed to disk and renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file to disk, so that a power cut leaves no empty file after the renaming."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Remove temporary files of processes that were killed in `atomically`.

    The caller has to hold the lock on these files.
    """
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 32}"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON in UTF-8.

    Bytes of file names that are not UTF-8, Python's surrogates, become JSON's escapes.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode("utf-8", errors="backslashreplace")
    atomically(path, lambda p: p.write_bytes(data))


def _holder(path: Path) -> str:
    try:
        return path.with_suffix(".holder").read_text()
    except FileNotFoundError:
        return "another process"
