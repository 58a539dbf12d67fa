"""Start a job that stops at a checkpoint when its queue dies, even from SIGKILL.

Usage: python -I -S die_with_parent.py QUEUE_PID COMMAND [WORD ...]

This works on Linux only: a process requests a signal for its parent's death, and exec keeps the
request. On other systems, and with other launchers, the job runs to its end. The stage locks make
both cases harmless. This is a separate program without torch because code between fork and exec
would run among the queue's threads.

The command ignores SIGUSR2. Slurm sends its warning before a time limit to all processes of a job,
which would end those that do not handle it; the process that Slurm started passes it on as SIGTERM.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOPPED = 143


def die_with_parent(queue: int) -> None:
    """Request SIGTERM for the death of the queue, which has to be the parent; else exit."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != queue:  # the queue died before the request
        os._exit(STOPPED)


def ignore_warnings() -> None:
    """Ignore the signal by which Slurm announces the end of a job."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def main(queue: int, command: list[str]) -> None:
    """Replace this process with the command; the command gets SIGTERM when the queue dies."""
    die_with_parent(queue)
    ignore_warnings()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"failed: {command[0]} could not be started: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
