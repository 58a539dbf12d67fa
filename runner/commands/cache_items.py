"""The items in the cache: what they are, whether they are whole, and their removal."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from runner.engine.checkpoint import checkpoint_payload
from runner.engine.store import Store, read_manifest
from runner.errors import Damaged
from runner.files import is_leftover, temporary_path
from runner.files import remove as delete
from runner.locks import held_at_once

DAY = 86400.0
CHECKPOINT, LEFTOVER, DAMAGED = "checkpoint", "leftover", "damaged"
FOLDERS = {
    "stages": "",
    "checkpoints": CHECKPOINT,
    "tmp": LEFTOVER,
    "damaged": DAMAGED,
}


@dataclass(frozen=True)
class Item:
    """An item in the cache.

    Args:
        kind: the stage's kind, or `checkpoint`, `leftover` (of a killed process) or `damaged` (set
            aside, or no whole artefact).
        written: time of the last change.
        used: whether a run or a table uses it.
        young: items used by nothing are kept while they have fewer hours.
    """

    path: Path
    key: str
    kind: str
    size: int
    written: float
    used: bool = False
    young: float = 1.0

    @property
    def days(self) -> float:
        """Days since the last change."""
        return (time.time() - self.written) / DAY

    @property
    def removable(self) -> bool:
        """Whether it is used by nothing and not young. Damaged items are never young."""
        if self.kind == LEFTOVER:
            return is_leftover(self.path)
        if self.kind == DAMAGED:
            return not self.used or self.path.parent.name == DAMAGED
        return not self.used and not self.young_and_unused

    @property
    def young_and_unused(self) -> bool:
        """Whether only its age keeps it."""
        young = self.days * 24 < self.young
        return young and not self.used and self.kind not in (LEFTOVER, DAMAGED)


def items(cache_dir: Path) -> Iterator[Item]:
    """All items in the cache: artefacts, checkpoints, leftovers and what was set aside."""
    for folder, kind in FOLDERS.items():
        for path in sorted((cache_dir / folder).glob("*")):
            try:
                size, written = _size(path)
                key = path.name.lstrip(".").partition(".")[0].partition("-")[0]
                hidden = LEFTOVER if path.name.startswith(".") else kind
                yield Item(path, key, hidden or _kind(path), size, written)
            except FileNotFoundError:  # renamed or removed since it was listed
                continue


def _size(path: Path) -> tuple[int, float]:
    """Size in bytes of a file or of a folder's files, and the time of the last change."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    states = [file.lstat() for file in files]
    size = sum(state.st_size for state in states if S_ISREG(state.st_mode))
    return size, max(state.st_mtime for state in states)


def _kind(path: Path) -> str:
    try:
        return str(read_manifest(path).meta.get("kind"))
    except Damaged:
        return DAMAGED


def damage(item: Item, cache_dir: Path) -> Damaged | None:
    """Read all of an artefact or a checkpoint; what is wrong with it, if anything is."""
    try:
        if item.path.parent.name == "stages":
            Store(cache_dir).verify(item.path.name)
        elif item.kind == CHECKPOINT:
            checkpoint_payload(item.path)
    except Damaged as error:
        return error if os.path.lexists(item.path) else None  # else removed since it was listed
    return None


def remove(item: Item, cache_dir: Path, used: Callable[[], set[str]]) -> str:
    """Remove an item under its stage's lock; the reason why it was kept, or an empty string.

    Args:
        used: the keys in use now. A run can have begun or finished since the item was listed.
    """
    with held_at_once(cache_dir / "locks" / f"{item.key}.lock") as free:
        if not free:
            return "a process holds its lock"
        try:
            if item.kind not in (LEFTOVER, DAMAGED) and item.key in used():
                return "a run uses it now"
            if _size(item.path)[1] != item.written:
                return "it changed after it was listed"
            doomed = temporary_path(cache_dir / "tmp" / item.key)
            doomed.parent.mkdir(parents=True, exist_ok=True)
            item.path.rename(doomed)  # atomic: no process reads half an artefact
        except FileNotFoundError:  # another process removed it first
            return ""
        delete(doomed)
    return ""
