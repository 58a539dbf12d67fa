"""Notes on files that were read once: their content is not read again until they change.

A file counts as unchanged while its size and its modification time, in nanoseconds, are the same.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner.data.image_files import status
from runner.data.progress import counted
from runner.files import write_json
from runner.streams import say

READERS = 8  # threads; hashing and reading release the interpreter's lock
FEW = 1000  # files that are read without a progress line

Note = list[Any]  # JSON


def noted(
    files: Mapping[str, Path], kept: Path | None, look: Callable[[Path], Note], title: str
) -> dict[str, Note]:
    """Return `look(path)` for each file by name; that of unchanged files is read from the notes.

    Args:
        kept: the file of the notes, written if anything is new; None = keep none.
        title: what is done, for progress lines.

    Raises:
        DataError: a file cannot be read.
    """
    stamps = {name: _stamp(path) for name, path in files.items()}
    before = _read(kept)
    missing = [name for name, stamp in stamps.items() if before.get(name, [None])[0] != stamp]
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda name: look(files[name]), missing)
        if len(missing) > FEW:
            found = counted(found, len(missing), title, "files")
        new = dict(zip(missing, found, strict=True))
    notes = {name: new[name] if name in new else before[name][1] for name in files}
    if kept and (new or before.keys() != notes.keys()):
        _write(kept, {name: [stamps[name], note] for name, note in notes.items()})
    return notes


def _stamp(path: Path) -> list[int]:
    found = status(path)
    return [found.st_size, found.st_mtime_ns]


def _read(kept: Path | None) -> dict[str, Any]:
    """Return the stored notes; none if they cannot be read."""
    if kept is None:
        return {}
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(kept: Path, notes: Mapping[str, Any]) -> None:
    try:
        write_json(kept, notes)
    except OSError as error:
        say(f"{kept} cannot be written ({error}): the next command reads the images again")
