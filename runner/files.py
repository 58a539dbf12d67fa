"""Atomic writes, sealed JSON, and damaged files, where several processes use the same files.

A file is written under a temporary name and then renamed. Correctness depends on this alone, never
on locks. A temporary name contains the process that writes, so that leftovers of processes that
have ended can be told from files that are being written.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

from runner.errors import Damaged
from runner.processes import parse, unique
from runner.streams import say

DAY = 86400.0
# The temporary names of `atomically`: these, and 32 hex digits in version 0.1.0.
TEMPORARY = re.compile(r"\.(?P<of>.+?)\.(?:[0-9a-f]{12}-(?P<writer>\d+-.+)\.tmp|[0-9a-f]{32})")
SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{64})"\n\}\n\Z')  # the end of a sealed file
UNFLUSHABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # the file system has no fsync
UNREADABLE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ELOOP)


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that readers see either the old or the new content.

    `write` receives a temporary name in the same folder. The file is flushed to disk and renamed.
    Its permissions follow the umask, also where `write` creates a private file. A folder in the
    file's place is set aside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode & 0o777
        write(temporary)
        if temporary.stat().st_mode & 0o777 != mode:
            temporary.chmod(mode)
        _flush(temporary)
        if path.is_dir() and not path.is_symlink():
            say(f"{Damaged(path, 'it is a folder')}; moved to {set_aside(path)}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically."""
    atomically(path, partial(_write, content=content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flush(path: Path) -> None:
    """Flush a file to disk, so that a power cut leaves no empty file after the renaming."""
    with path.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in UNFLUSHABLE:
                raise


def temporary_path(path: Path) -> Path:
    """A hidden name in the same folder that names this process and is used once."""
    return path.with_name(f".{path.name}.{unique()}.tmp")


def is_leftover(path: Path) -> bool:
    """Whether the process that wrote the temporary file or folder has provably ended.

    A process that cannot be seen from here counts as ended once the path is a day old.
    """
    found = TEMPORARY.fullmatch(path.name)
    process = parse(found["writer"] or "") if found else None
    if process and process.here:
        return process.dead
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > DAY
    return False


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove leftovers (`is_leftover`) of `name`, or of any name, from a folder.

    Files of living processes stay.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        found = TEMPORARY.fullmatch(path.name)
        if found and name in (None, found["of"]) and is_leftover(path):
            remove(path)


def remove(path: Path) -> None:
    """Delete a file or a folder. Errors are ignored: another process may do the same."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON in UTF-8.

    Bytes of file names that are not UTF-8, Python's surrogates, become JSON's escapes.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def sealed(content: Mapping[str, Any]) -> bytes:
    """A non-empty dict as indented JSON that ends with a checksum of all bytes before it."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("\n}").encode()
    return body + f',\n "checksum": "{sha256(body)}"\n}}\n'.encode()


def unsealed(path: Path) -> dict[str, Any]:
    """The content of a file that `sealed` made, without the checksum.

    Raises:
        Damaged: the file cannot be read, or it is not as it was written.
    """
    data = read_bytes(path)
    found = SEAL.search(data)
    if found is None:
        raise Damaged(path, "it is empty" if not data else "it does not end with a checksum")
    body = data[: found.start()]
    if sha256(body) != found[1].decode():
        raise Damaged(path, "its checksum is not that of its content")
    content: dict[str, Any] = json.loads(body + b"\n}")
    return content


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        Damaged: it is missing or cannot be read. Missing permissions are no damage.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            raise Damaged(path, "it is not a file")
        return path.read_bytes()
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise Damaged(path, "it is missing" if missing else str(error)) from None


def sha256(content: bytes | memoryview) -> str:
    """The SHA-256 in hex digits."""
    return hashlib.sha256(content).hexdigest()


def set_aside(path: Path, folder: Path | None = None) -> Path:
    """Move a damaged file or folder away under a name that says so, and return the new path.

    The name is `<name>-<time>` in `folder`, or `<name>.damaged-<time>` beside it.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{path.name}-{stamp}" if folder else f"{path.name}.damaged-{stamp}"
    target = (folder or path.parent) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        target = target.with_name(f"{name}-{unique()[:12]}")
    with contextlib.suppress(FileNotFoundError):  # another process moved it first
        path.rename(target)
    return target
