"""Identity of processes: which one wrote a temporary file or holds a lock, and whether it lives."""

import contextlib
import hashlib
import os
import re
import socket
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NAMED = re.compile(r"(?P<pid>\d+)-(?P<start>\d+)-(?P<space>[0-9a-f]{8})-(?P<host>[^/]+)")


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    Args:
        start: its start time in the kernel's units; 0 where the kernel does not provide it.
        space: a hash of the boot and of the process namespace in which `pid` counts. Machines and
            containers can share a host name, but not this value.
    """

    host: str
    pid: int
    start: int
    space: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def name(self) -> str:
        """The process as a part of a file's name; `parse` reads it."""
        return f"{self.pid}-{self.start}-{self.space}-{self.host}"

    @property
    def here(self) -> bool:
        """Whether this process can see it: same boot of the same machine, same namespace."""
        return self.space == _space() and self.host == _host()

    @property
    def dead(self) -> bool:
        """Whether it has provably ended: it was here, and its pid is free or used again."""
        if not self.here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it belongs to another user
            pass
        start = _start(self.pid)
        return start is None or (start != self.start and 0 not in (start, self.start))


def current() -> Process:
    """This process."""
    pid = os.getpid()
    return Process(_host(), pid, _start(pid) or 0, _space())


def parse(text: str) -> Process | None:
    """The process that `Process.name` describes; None for any other text."""
    found = NAMED.fullmatch(text)
    if found is None:
        return None
    return Process(found["host"], int(found["pid"]), int(found["start"]), found["space"])


def unique() -> str:
    """A part of a temporary file's name that names this process and is used once."""
    return f"{uuid.uuid4().hex[:12]}-{current().name}"


def _start(pid: int) -> int | None:
    """The start time of a running process; 0 if it cannot be read, None for one that has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in ("Z", "X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname().replace("/", "_")[:64] or "localhost"


@lru_cache(maxsize=1)
def _space() -> str:
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]
