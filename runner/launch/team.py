"""A job of several processes: torchrun with the exit codes of a single process.

torchrun itself ends with exit code 1 for every failure and for SIGTERM. A queue has to tell a stop
at a checkpoint, a refusal and a killed process from other failures. This module does not import
torch before `main`.
"""

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from runner.errors import EXIT_FAILED, EXIT_STOPPED
from runner.paths import ROOT

# The first argument is the root of the repository, the others are those of torchrun.
START = "import sys; sys.path[0] = sys.argv.pop(1); from runner.launch.team import main; main()"
RUN_ID = "TORCHELASTIC_RUN_ID"  # torchrun sets it for its processes: the name of their meeting
PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
LONG = "86400"  # seconds: torchrun leaves it to the queue or to Slurm to kill a job


def new_name() -> str:
    """A name for a team that no other one has."""
    return f"winnow-{uuid.uuid4().hex[:12]}"


def team_command(
    command: Sequence[str],
    processes: int,
    name: str,
    nodes: int = 1,
    meeting: str = "localhost:0",
    first: bool = True,
) -> list[str]:
    """The command that runs `command` as a team, on one of its nodes.

    Args:
        command: the interpreter, a script and its arguments.
        processes: on each node.
        name: of the team, the same on all nodes.
        meeting: host and port where the nodes meet; port 0 = a free one.
        first: whether they meet at this node.
    """
    options = [f"--nnodes={nodes}", f"--nproc-per-node={processes}", f"--rdzv-id={name}"]
    options += ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    options += [f"--rdzv-conf=is_host={int(first)}"]
    return [command[0], "-c", START, str(ROOT), *options, *command[1:]]


def main() -> NoReturn:
    """Run torchrun with the arguments of this process, and end with the exit code of the team."""
    end(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run torchrun; the exit code of the team, or minus the signal that killed one of its parts."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ.setdefault(PATIENCE, LONG)
    try:
        torchrun(list(arguments))
    except SignalException:  # its processes have written a checkpoint
        return EXIT_STOPPED
    except ChildFailedError as error:
        return code_of_team(failure.exitcode for failure in error.failures.values())
    return 0


def code_of_team(codes: Iterable[int]) -> int:
    """The exit code that describes the failed processes of a team: that of the cause.

    torchrun ends the others with SIGTERM, and a process that loses another fails with exit code 1.
    """
    found = set(codes)
    killed = {code for code in found if code < 0} - {-signal.SIGTERM}
    causes = killed or found - {EXIT_FAILED, EXIT_STOPPED, -signal.SIGTERM}
    known = (code for code in (EXIT_FAILED, EXIT_STOPPED) if code in found)
    return min(causes) if causes else next(known, min(found, default=EXIT_FAILED))


def end(code: int) -> NoReturn:
    """End this process with an exit code, or by minus that signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else EXIT_FAILED)


def kill_members(name: str) -> None:
    """Kill the processes of a team, which torchrun starts in sessions of their own (Linux)."""
    wanted = f"{RUN_ID}={name}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
