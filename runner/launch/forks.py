"""Jobs as forks of a server that has imported what they need (runner/launch/fork_server.py).

A job of `python run.py` spends seconds on imports before it begins. Here one process imports, and
each job is a fork of it that runs the script. A fork has what a process of its own has: a session,
output files, a command line, a death signal, and a parent that receives its exit code, which is the
queue itself. A job is not affected when the server ends. It inherits no thread, lock, open file or
CUDA context.

A job's environment may differ from the server's in `READ_LATE`, which CUDA reads when it is first
used. The other variables take effect when Python starts (PYTHON*, LD_LIBRARY_PATH), at an import
(OMP_NUM_THREADS, OPENBLAS_NUM_THREADS, MKL_*, TORCH_*), or at a time that a library chooses. A
server therefore starts with those of the queue's slots, which are equal. A job in which one of them
differs is started as a process of its own, as are all jobs where forks cannot be had: the system is
not Linux, or the imports start threads or CUDA.

A server is replaced when it has ended, does not answer, or a source file has changed since it
began: a record names the code of the checkout, which has to be the code that ran.
"""

import contextlib
import ctypes
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runner.launch.fork_server import GO, READY, Request
from runner.launch.forked import Forked
from runner.paths import CODE, ROOT

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
READ_LATE = frozenset({"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
ALWAYS = (  # imported by run.py, and later by every run
    "hydra",
    "numpy.ma",
    "numpy.random",
    "runner.config.help",
    "runner.config.hydra_errors",
    "runner.commands.run",
    "runner.engine.shared_folders",
)
SOURCES = tuple(ROOT / name for name in (*CODE, "hydra_plugins"))  # what can influence a number
PACKAGES = ("runner", "models", "pruners")
START_SECONDS = 300.0  # for the imports of a server
REPLY_SECONDS = 60.0  # for a fork to begin
FAILURES = 3  # servers that fail in succession before forks are given up
ROOM = 8192  # bytes for the command line of a job
START = "import sys; sys.path[0] = sys.argv[1]; from runner.launch.fork_server import main; main()"


States = frozenset[tuple[str, int, int]]  # path, time of the last change in ns, size in bytes


def is_script(command: Sequence[str]) -> bool:
    """Whether a command is `python SCRIPT.py ...`; options of Python require a start of its own."""
    return len(command) > 1 and command[0] == sys.executable and command[1].endswith(".py")


class Forks:
    """A fork server and its successors; a context manager that ends the server.

    Args:
        environment: variables with which servers start.
        note: prints why forks are given up.
        late: whether a job's environment may differ from that in a variable.
        watched: files, and folders of files, with which a server is outdated when they change.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        note: Callable[[str], None] = lambda text: None,
        late: Callable[[str], bool] = READ_LATE.__contains__,
        watched: Sequence[Path] = SOURCES,
    ) -> None:
        self.environment, self.note, self.late = dict(environment), note, late
        self.watched = watched
        self.server: _Server | None = None
        self.failures = 0
        self.refusal = "" if sys.platform == "linux" else "forks of torch need Linux"

    def __enter__(self) -> "Forks":
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self) -> None:
        """Wait until `start` can be called."""
        while not self.ready():
            time.sleep(0.01)

    def ready(self) -> bool:
        """Whether `start` can be called; False while a server imports, which takes seconds.

        It never waits, and replaces a server that has ended or whose sources have changed.
        """
        if self.refusal:
            return True
        if self.server is None or self.server.sources != states(self.watched):
            self.end()
            self.server = _Server(self.environment, states(self.watched))
        answer = self.server.answer()
        if answer == READY.decode().strip():
            return True
        if answer is None:
            return False
        self._failed(answer)
        return bool(self.refusal)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        out: int,
        err: int,
    ) -> Forked | None:
        """Start a job as a fork; None = start it as a process of its own.

        Args:
            command: the interpreter, the script and its arguments.
            environment: all variables of the job.
            folder: its working directory.
            out: descriptor of the file for its standard output.
            err: likewise for errors.
        """
        if self.refusal or self.server is None or not is_script(command):
            return None
        names = environment.keys() | self.environment.keys()
        if any(
            environment.get(name) != self.environment.get(name) and not self.late(name)
            for name in names
        ):
            return None
        request = Request(tuple(command[1:]), dict(environment), str(folder))
        try:
            forked = self.server.fork(request, out, err)
        except (OSError, ValueError) as error:
            self._failed(f"it does not answer: {error}")
            return None
        self.failures = 0
        return forked

    def _failed(self, reason: str) -> None:
        """End a server that cannot be used; after `FAILURES` of them, use none."""
        self.end()
        self.failures += 1
        if self.failures >= FAILURES or reason.startswith("refused: "):
            self.refusal = reason.removeprefix("refused: ")
            self.note(f"note: each job imports torch anew, because forks fail: {self.refusal}")

    def end(self) -> None:
        """End the server; its jobs go on."""
        if self.server is not None:
            self.server.end()
        self.server = None


class _Server:
    """One fork server."""

    def __init__(self, environment: Mapping[str, str], sources: States) -> None:
        self.channel, theirs = socket.socketpair()
        self.said, self.sources, self.began = b"", sources, time.monotonic()
        words = [START, str(ROOT), str(theirs.fileno()), ",".join(_modules()), " " * ROOM]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *words],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def answer(self) -> str | None:
        """`ready`, or why the server cannot be used; None while it imports."""
        while not self.said.endswith(b"\n") and select.select([self.channel], [], [], 0)[0]:
            if not (part := self.channel.recv(4096)):
                return f"it ended with exit code {self.process.wait()}"
            self.said += part
        if (code := self.process.poll()) is not None and not self.said.startswith(b"refused"):
            return f"it ended with exit code {code}"
        if self.said.endswith(b"\n"):
            return self.said.decode().strip()
        waited = time.monotonic() - self.began
        return f"it is not ready after {waited:.0f} s" if waited > START_SECONDS else None

    def fork(self, request: Request, out: int, err: int) -> Forked:
        """Fork a job, which becomes a child of this process.

        Raises:
            OSError: the server has ended or does not answer; no job has begun.
            ValueError: the fork has ended before it began.
        """
        ours, theirs = socket.socketpair()
        with ours, _adopting():
            ours.settimeout(REPLY_SECONDS)
            with theirs:
                socket.send_fds(self.channel, [b"f"], [theirs.fileno(), out, err])
            ours.sendall(request.line())
            with ours.makefile("rb") as lines:
                forked = Forked(int(lines.readline()))
            with contextlib.suppress(OSError):  # it was killed: `poll` says so
                ours.sendall(GO)
        return forked

    def end(self) -> None:
        """End the server; its jobs go on."""
        self.channel.close()
        self.process.kill()
        self.process.wait()


def _modules() -> list[str]:
    """The modules that jobs will import: ours among those that the checks of the jobs have."""
    ours = (name for name in sys.modules if name.partition(".")[0] in PACKAGES)
    return [*ALWAYS, *sorted(name for name in ours if "." in name and name not in ALWAYS)]


def states(paths: Iterable[Path]) -> States:
    """Time and size of each file and of each file in a folder."""
    return frozenset(_states(paths))


def _states(paths: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        with contextlib.suppress(OSError):  # removed meanwhile, or a wheel without it
            if path.is_dir():
                yield from _states(each for each in path.iterdir() if each.name != "__pycache__")
            else:
                state = path.stat()
                yield str(path), state.st_mtime_ns, state.st_size


@contextmanager
def _adopting() -> Iterator[None]:
    """Make this process the parent of orphans among its descendants, for a moment.

    Raises:
        OSError: the kernel refuses.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    before = ctypes.c_int(0)
    if prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0) or prctl(
        PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
