"""The entry of every command: standard streams, Ctrl-C before any work, exit codes.

It imports nothing that takes time, so that Ctrl-C during the imports of a command is handled.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from runner.errors import EXIT_CONFIG, EXIT_INTERRUPTED, ConfigError
from runner.streams import protect_streams, say
from runner.torchrun import ranks, stop_with_torchrun

INTERRUPTED = "stopped: Ctrl-C; repeat the command to continue\n"


def command(work: Callable[[], int]) -> NoReturn:
    """Run the work of a command and exit with its exit code.

    Ctrl-C ends the process with one line and exit code 130, except while a run, a queue or a wait
    for Slurm handles it. An ignored Ctrl-C (nohup, a background job) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    stop_with_torchrun()
    protect_streams()
    sys.exit(guarded(work))


def leave(number: int, frame: Any) -> NoReturn:
    """The handler of Ctrl-C: end the process at once.

    An exception could be lost or changed in the code that it interrupts, such as an import. Files
    are written atomically, so that nothing remains unfinished.
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: it interrupted this stream
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        if ranks().rank == 0:
            os.write(2, INTERRUPTED.encode())
    os._exit(EXIT_INTERRUPTED)


def complain(error: ConfigError) -> None:
    """Print the messages of a configuration error to standard error, one per line."""
    if ranks().rank == 0:  # under torchrun only the first process prints
        say("\n".join(f"error: {message}" for message in error.messages))


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; on a ConfigError, print its messages and return 2."""
    try:
        return work()
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIG
