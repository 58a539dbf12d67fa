"""Start a job that ends at a checkpoint when the queue that began it dies, be it of SIGKILL: python -I -S die_with_parent.py QUEUE_PID COMMAND [WORD ...]

Linux alone can do this (a process asks for a signal at its parent's death, and keeps that through exec). Elsewhere, and for other launchers, such a job goes on
to its end; the stage locks make either harmless. A program of its own, without torch: code between fork and exec would run among the queue's threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOPPED = 143


def die_with_parent(queue: int, command: list[str]) -> None:
    """Become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != queue:  # it died before we asked
        sys.exit(STOPPED)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"failed: {command[0]} could not be started: {error.strerror}")


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), sys.argv[2:])
