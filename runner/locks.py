"""Locks between processes on one or several machines. They prevent duplicate work only.

A lock has two parts. `flock` on `<name>.lock` excludes processes of one machine, and others where
the file system passes it on; the kernel releases it when its process ends. Many cluster file
systems keep it local to a node or have none, so its holder also holds a lease, `<name>.lease`: a
file created exclusively, with the holder's host and pid, whose time a thread renews. A lease is
taken over when its process has provably ended, or when it was not renewed for `STALE` seconds.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.files import remove, temporary_path
from runner.processes import Process, current, parse, unique

try:
    import fcntl
except ImportError:  # Windows: leases alone
    fcntl = None  # type: ignore[assignment]

BEAT = 10.0  # seconds between two renewals of a lease
STALE = 120.0  # seconds after which another machine's lease that is not renewed is taken over
FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5  # seconds between two attempts
BUSY = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def held(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; if another process holds it, call `waiting` with its name and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt, pause, waits = _Attempt(path), FIRST_WAIT, False
    try:
        while not attempt.succeeds():
            if not waits:
                waiting(str(_holder(_lease(path)) or "another process"))
                waits = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)
        with _renewed(_lease(path), attempt.own):
            yield
    finally:
        attempt.end()


@contextmanager
def held_at_once(path: Path) -> Iterator[bool]:
    """Hold a lock file if no process holds it; the value is whether it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = _Attempt(path)
    try:
        if attempt.succeeds():
            with _renewed(_lease(path), attempt.own):
                yield True
        else:
            yield False
    finally:
        attempt.end()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file. A missing lock file is not created."""
    if not path.is_file():
        return False
    descriptor, free = _flock(path, create=False)
    if descriptor is not None:
        os.close(descriptor)
    if not free:
        return True
    try:
        age = time.time() - _lease(path).stat().st_mtime
    except OSError:
        return False
    holder = _holder(_lease(path))
    return not holder.dead if holder and holder.here else age < STALE


@dataclass
class _Attempt:
    """Attempts of this process to hold one lock."""

    path: Path
    own: bytes = b""  # the content of the lease while it is held
    descriptor: int | None = None
    seen: tuple[bytes, float] = (b"", 0.0)  # another's lease: its content and time
    since: float = 0.0  # when it was first seen so

    def succeeds(self) -> bool:
        """Try once."""
        if self.descriptor is None:
            self.descriptor, free = _flock(self.path)
            if not free:
                return False
        lease = _lease(self.path)
        if self._create(lease):
            return True
        return self._over(lease) and _stolen(lease, self.seen[0]) and self._create(lease)

    def _create(self, lease: Path) -> bool:
        own = f"{current().name} {unique()[:12]}\n".encode()
        try:
            descriptor = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, own)
        except OSError:
            lease.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self.own = own
        return True

    def _over(self, lease: Path) -> bool:
        """Whether another's lease is over: its process ended, or nothing renewed it for long.

        Only changes of its time count, since the clocks of two machines can differ.
        """
        seen = _read(lease)
        if seen is None:  # it was released; the next attempt can create another
            return False
        holder = _process(seen[0])
        if seen != self.seen:
            self.seen, self.since = seen, time.monotonic()
        if holder and holder.here:
            return holder.dead
        return time.monotonic() - self.since > STALE

    def end(self) -> None:
        """Release what is held."""
        lease = _lease(self.path)
        found = _read(lease) if self.own else None
        if found and found[0] == self.own:
            with contextlib.suppress(OSError):
                lease.unlink(missing_ok=True)
        if self.descriptor is not None:
            os.close(self.descriptor)  # which releases flock
        self.own, self.descriptor = b"", None


def _flock(path: Path, create: bool = True) -> tuple[int | None, bool]:
    """A descriptor that holds flock, if there is flock, and whether no other process holds it."""
    if fcntl is None:
        return None, True
    try:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    except OSError:
        try:  # another user's file, which only they may write
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None, True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return None, error.errno not in BUSY  # else the file system has no flock
    return descriptor, True


def _lease(path: Path) -> Path:
    return path.with_suffix(".lease")


def _read(lease: Path) -> tuple[bytes, float] | None:
    """Content and time of a lease; None if there is none. A folder in its place has no content."""
    try:
        written = lease.stat().st_mtime
        return (lease.read_bytes() if lease.is_file() else b""), written
    except FileNotFoundError:
        return None
    except OSError:
        return b"", 0.0


def _process(content: bytes) -> Process | None:
    return parse(content.decode(errors="replace").partition(" ")[0])


def _holder(lease: Path) -> Process | None:
    found = _read(lease)
    return _process(found[0]) if found else None


def _stolen(lease: Path, judged: bytes) -> bool:
    """Remove the lease that was judged to be over; False if another process was faster."""
    taken = temporary_path(lease)
    try:
        lease.rename(taken)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    found = _read(taken)
    if found and found[0] != judged:  # a new lease, made since: put it back
        with contextlib.suppress(OSError):
            os.link(taken, lease)
    remove(taken)
    return bool(found and found[0] == judged)


@contextmanager
def _renewed(lease: Path, own: bytes) -> Iterator[None]:
    """Renew the lease's time in a thread until it is released or taken over."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(BEAT):
            found = _read(lease)
            if found and found[0] != own:
                return
            with contextlib.suppress(OSError):
                os.utime(lease)

    thread = threading.Thread(target=renew, name=f"lease {lease}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
