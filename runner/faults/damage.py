"""Kinds of damage to a file."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, Protocol


class Damage(Protocol):
    """A kind of damage.

    It receives a file, a generator and another file of the same kind, and returns what it did.
    """

    name: ClassVar[str]

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Damage the file; the text says how."""


@dataclass(frozen=True)
class Flip:
    """One bit of a random byte changes, as on a failing disk."""

    name: ClassVar[str] = "flipped bit"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Change one bit. An empty file stays as it is."""
        content = bytearray(file.read_bytes())
        if not content:
            return "nothing to flip in an empty file"
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        content[place] ^= 1 << bit
        replace(file, bytes(content))
        return f"bit {bit} of byte {place:,} of {len(content):,} flipped"


@dataclass(frozen=True)
class Scramble:
    """A block becomes random bytes, as after a lost write."""

    name: ClassVar[str] = "scrambled block"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Overwrite up to 512 bytes."""
        content = bytearray(file.read_bytes())
        begin = rng.randrange(max(1, len(content)))
        end = min(len(content), begin + 512)
        content[begin:end] = rng.randbytes(end - begin)
        replace(file, bytes(content))
        return f"bytes {begin:,} to {end:,} of {len(content):,} random"


@dataclass(frozen=True)
class Truncate:
    """The file ends too early, as on a full disk."""

    name: ClassVar[str] = "truncated"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Keep a random part of the file, at least one byte less than all."""
        content = file.read_bytes()
        kept = rng.randrange(max(1, len(content)))
        replace(file, content[:kept])
        return f"cut to {kept:,} of {len(content):,} bytes"


@dataclass(frozen=True)
class Empty:
    """The file is empty, as after a power cut."""

    name: ClassVar[str] = "emptied"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Keep no byte."""
        replace(file, b"")
        return "emptied"


@dataclass(frozen=True)
class Delete:
    """The file is missing."""

    name: ClassVar[str] = "deleted"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Remove the file."""
        file.unlink()
        return "deleted"


@dataclass(frozen=True)
class Swap:
    """Another whole file of the same kind, with the same shapes, is in its place."""

    name: ClassVar[str] = "swapped"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Copy the other file over this one."""
        if not other.is_file():
            return "no other file of this kind: unchanged"
        replace(file, other.read_bytes())
        return "replaced by that of another seed"


@dataclass(frozen=True)
class Folder:
    """A folder is in its place."""

    name: ClassVar[str] = "made a folder"

    def apply(self, file: Path, rng: Random, other: Path) -> str:
        """Replace the file by an empty folder."""
        file.unlink()
        file.mkdir()
        return "replaced by an empty folder"


DAMAGES: Sequence[Damage] = (
    Flip(),
    Scramble(),
    Truncate(),
    Empty(),
    Delete(),
    Swap(),
    Folder(),
)


def replace(file: Path, content: bytes) -> None:
    """Write new content under the name of a file, not through links to the old one."""
    times = file.stat()
    file.unlink()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # damage leaves no other date


def swap_folder(folder: Path, other: Path) -> str:
    """Replace a whole stage by that of another key: every part of it is intact."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    return "replaced by the whole stage of another seed"
