"""Full and read-only disks, folders that are files, and terminals that take no output."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.kills import judged
from runner.faults.kind import Part, Unavailable
from runner.faults.lab import Terms, environment, run, typed
from runner.faults.trial import Ended, Trial, Verdict, classify, worst

FULL = Path("/dev/full")  # Linux: every write fails with ENOSPC
ENCODINGS = ("ascii", "latin-1")
PLACES = ("results", "cache")


@dataclass(frozen=True)
class FileLimit:
    """No file can become larger than a random size, then the limit is gone."""

    name: ClassVar[str] = "fsize"
    title: ClassVar[str] = "files that cannot be written in full (RLIMIT_FSIZE), then the run again"
    planned: ClassVar[int] = 40

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each size."""
        while True:
            case, home, size = stock.draw(rng), stock.empty(), int(2 ** rng.uniform(3, 16))
            words = [*case.words, *home.words]
            first = run(words, home.folder, Terms(fsize=size))
            yield self._judged(stock, case, home, first, size)
            discard(home)

    def _judged(self, stock: Stock, case: Case, home: Home, first: Ended, size: int) -> Trial:
        what = f"no file above {size:,} bytes"
        return recovered(self.title, what, stock, case, home, first)


def recovered(title: str, what: str, stock: Stock, case: Case, home: Home, first: Ended) -> Trial:
    """The verdict on a run under a fault, and on the same run once the fault is gone."""
    alone = stock.alone(case)
    wanted = {alone.identity: alone.record}
    during = classify(first, same=home.records() == wanted)
    after, message = judged(run([*case.words, *home.words], home.folder), home, wanted)
    output = first.last_line if during in (Verdict.TRACEBACK, Verdict.UNCLEAR) else message
    # a failure during the fault is right; afterwards the run must reach its record
    later = Verdict.UNCLEAR if after in (Verdict.FAILED, Verdict.REFUSED) else after
    return Trial(title, what, worst([during, later]), typed(case.words), output)


@dataclass(frozen=True)
class SmallDisk:
    """A disk becomes full or read-only while a run goes on; then it is mended."""

    name: ClassVar[str] = "disks"
    title: ClassVar[str] = "full and read-only disks (tmpfs), then the run again"
    planned: ClassVar[int] = 40

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each disk.

        Raises:
            Unavailable: mounting is not permitted.
        """
        while True:
            case, home, place = stock.draw(rng), stock.empty(), rng.choice(PLACES)
            disk = home.folder / place
            disk.mkdir()
            readonly = rng.random() < 0.3
            blocks = 1 if readonly else rng.randint(1, 24)  # of 4 kB; a file has one at least
            with mounted(disk, f"size={4 * blocks}k"):
                if readonly:
                    remount(disk, "ro")
                first = run([*case.words, *home.words], home.folder)
                remount(disk, "rw,size=64m")
                what = f"{place} on a {'read-only' if readonly else f'{4 * blocks} kB'} disk"
                yield recovered(self.title, what, stock, case, home, first)
            discard(home)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system in memory.

    Raises:
        Unavailable: mounting is not permitted.
    """
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Unavailable(f"mount: {error.strerror}") from None
    if done.returncode:
        raise Unavailable(f"mounting is not permitted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def remount(folder: Path, options: str) -> None:
    """Change the options of a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@dataclass(frozen=True)
class Unwritable:
    """A folder that cannot be written: no permission, or a file is in its place."""

    name: ClassVar[str] = "unwritable"
    title: ClassVar[str] = "results and cache that cannot be written, then the run again"
    planned: ClassVar[int] = 24

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each folder. Root may write everywhere: then a file is in its place."""
        while True:
            case, home, place = stock.draw(rng), stock.empty(), home_place(rng)
            folder = home.folder / place
            folder.parent.mkdir(parents=True, exist_ok=True)
            permission = os.geteuid() != 0 and rng.random() < 0.5
            if permission:
                folder.mkdir()
                folder.chmod(0o500)
            else:
                folder.write_text("not a folder\n")
            first = run([*case.words, *home.words], home.folder)
            if permission:
                folder.chmod(0o700)
            else:
                folder.unlink()
            what = f"{place} {'without permission' if permission else 'is a file'}"
            trial = recovered(self.title, what, stock, case, home, first)
            yield trial
            discard(home)


def home_place(rng: Random) -> str:
    """A folder in which a run writes."""
    return rng.choice(["results", "results/runs", "cache", "cache/stages", "cache/locks"])


@dataclass(frozen=True)
class Terminal:
    """Standard output is on a full disk, or its encoding lacks most characters.

    What is shown must never stop what is computed: the run has to end with exit code 0.
    """

    name: ClassVar[str] = "terminals"
    title: ClassVar[str] = "output on a full disk, ASCII and Latin-1 terminals"
    planned: ClassVar[int] = 12

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each terminal.

        Raises:
            Unavailable: there is no /dev/full.
        """
        if not FULL.exists():
            raise Unavailable(f"there is no {FULL}")
        ways: list[tuple[str, Terms]] = [
            ("standard output on a full disk", Terms(stdout=str(FULL))),
            ("standard error on a full disk", Terms(stderr=str(FULL))),
            *(
                (f"an output of {name}", Terms(environment=environment(PYTHONIOENCODING=name)))
                for name in ENCODINGS
            ),
        ]
        shown = ("env.progress=lines", "env.progress=bar", "env.progress=none")
        while True:
            for what, terms in part.of(ways):
                case, home, progress = stock.draw(rng), stock.empty(), rng.choice(shown)
                alone = stock.alone(case)
                words = case.but(progress).words
                ended = run([*words, *home.words], home.folder, terms, real=True)
                verdict, message = judged(ended, home, {alone.identity: alone.record})
                if verdict in (Verdict.FAILED, Verdict.REFUSED):
                    verdict = Verdict.UNCLEAR
                yield Trial(self.title, f"{what}, {progress}", verdict, typed(words), message)
                discard(home)
