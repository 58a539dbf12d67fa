"""The program of the fork server, which runner/launch/forks.py starts: it imports, then forks.

The server imports what jobs need and reads what all of them read of the repository's own files. It
computes nothing, so that it has no threads and has not touched CUDA. A request is a pair of sockets
and the job's output files. The server passes them to a fork, which becomes a child of the queue and
runs a script as an interpreter does that was started for it.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from runner.launch.die_with_parent import die_with_parent, ignore_warnings

WARM = "runner.commands.warm"  # by name: commands import launchers
READY, GO = b"ready\n", b"go\n"
ADOPTED_SECONDS = 10.0  # for the kernel to make the queue the parent of a fork
PYTHON = Path(sys.executable).name


@dataclass(frozen=True)
class Request:
    """A job to fork.

    Args:
        command: a Python script and its arguments.
        environment: all variables of the job.
        folder: its working directory.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: str

    def line(self) -> bytes:
        """The request as one line; `parse` reads it."""
        return json.dumps([self.command, self.environment, self.folder]).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Request":
        """The request that a line describes."""
        command, environment, folder = json.loads(line)
        return cls(tuple(command), environment, folder)


def main() -> NoReturn:
    """Serve the queue that started this program, until it ends.

    Arguments: the root of the repository, the descriptor of the socket to the queue, the modules to
    import, separated by commas, and blanks in which a fork writes its command line.
    """
    channel, queue = socket.socket(fileno=int(sys.argv[2])), os.getppid()
    preload(sys.argv[3].split(","))
    show_command([PYTHON, __file__])
    refusal = unfit()
    channel.sendall(f"refused: {refusal}\n".encode() if refusal else READY)
    if refusal:
        sys.exit(1)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of every object
    request = _serve(channel, queue)
    if request is None:
        sys.exit()
    run(request.command)


def preload(modules: Sequence[str]) -> None:
    """Import the modules, and read what every run reads of the repository's own files.

    Nothing is computed: that could start threads, which a fork does not have.
    """
    for module in modules:
        importlib.import_module(module)
    importlib.import_module(WARM).warm()


def unfit() -> str:
    """Why this process cannot be forked safely: it has threads or has touched CUDA; "" if it can.

    OpenBLAS starts threads when it is loaded, and ends them at the first fork.
    """
    import torch

    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    tasks = len(list(Path("/proc/self/task").iterdir()))
    if tasks > 1:
        return f"the imports start {tasks - 1} threads"
    return "the imports initialise CUDA" if torch.cuda._initialized else ""


def _serve(channel: socket.socket, queue: int) -> Request | None:
    """Fork for each request; returns in forks only, or None when the queue has ended.

    The fork is a grandchild whose parent ends at once, so that the kernel passes it to the queue.
    """
    while True:
        _, descriptors, *_ = socket.recv_fds(channel, 1, 3)
        if not descriptors:
            return None
        if (middle := os.fork()) == 0:
            channel.close()
            if os.fork():
                os._exit(0)
            try:
                return _begin(descriptors, queue)
            except BaseException:  # the queue sees that the fork did not begin
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(middle, 0)


def _begin(descriptors: Sequence[int], queue: int) -> Request:
    """Make this fork the job that the queue requests, and wait for the queue's word to begin."""
    connection, out, err = descriptors
    with socket.socket(fileno=connection) as asked, asked.makefile("rb") as lines:
        request = Request.parse(lines.readline())
        os.setsid()
        until = time.monotonic() + ADOPTED_SECONDS
        while os.getppid() != queue and time.monotonic() < until:
            time.sleep(0.0005)
        die_with_parent(queue)
        ignore_warnings()
        for number, descriptor in ((1, out), (2, err)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environment)
        _own_random_state()
        show_command([PYTHON, *request.command])
        asked.sendall(f"{os.getpid()}\n".encode())
        if lines.readline() != GO:
            os._exit(1)
    return request


def _own_random_state() -> None:
    """Seed the global generators of NumPy and torch anew, as their imports do.

    Python seeds its own in every fork.
    """
    import numpy as np
    import torch

    np.random.seed()
    torch.default_generator.seed()


def show_command(words: Sequence[str]) -> None:
    """Show `words` as this process' command line, in ps and in /proc/PID/cmdline.

    They are written over the arguments of the interpreter, and cut off at their length.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # proc(5): 48 arg_start, 49 arg_end
        if 0 < start < end:
            text = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, len(text))


def run(command: Sequence[str]) -> NoReturn:
    """Run a script as an interpreter does that was started for it, and end this process.

    Modules are not taken down, which takes as long as a small run.
    """
    sys.argv, sys.path[0] = list(command), str(Path(command[0]).resolve().parent)
    code = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as ended:
        code = _exit_code(ended.code)
    except BaseException as error:
        _print_traceback(error, command[0])
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]  # wait for threads, as the interpreter
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code < 0:  # the interpreter ends so, too
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _print_traceback(error: BaseException, script: str) -> None:
    """Print the traceback of an error from the frame of the script on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _exit_code(value: object) -> int:
    """The exit code of `sys.exit(value)`; a text is printed."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    print(value, file=sys.stderr)
    return 1
