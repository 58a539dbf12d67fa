"""A run as submitit sends it to the nodes of a Slurm cluster.

Slurm's warning before a time limit, or its preemption, is USR2, for which submitit installs a
handler that queues the job again and ends the process. It is called when a checkpoint has been
written.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.engine.execute import execute
from runner.entry import guarded
from runner.launch.jobs import DIE_WITH_PARENT, begin_log
from runner.launch.team import team_command
from runner.torchrun import without_torchrun

PORTS = range(20_000, 30_000)  # where the nodes of a job meet, chosen by its id


@dataclass(frozen=True)
class RemoteRun:
    """A run of one process.

    Args:
        overrides: those of run.py.
        log: the run's log, beside its record.
        again: the command line with which a user repeats the run.
    """

    overrides: tuple[str, ...]
    log: Path
    again: str

    def __call__(self) -> int:
        """Start or resume the run; return the exit code of run.py."""
        for name in os.environ.keys() - without_torchrun(os.environ).keys():
            del os.environ[name]  # of the submitting shell
        _write_to(self.log, self.again)
        return guarded(lambda: execute(read_request(compose_config(list(self.overrides)))))

    def checkpoint(self) -> Any:
        """The job to queue again at the time limit: the same run, which resumes its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class RemoteTeam:
    """A run of several processes; Slurm starts it once on each node, where it starts torchrun.

    Args:
        command: the interpreter, run.py and its overrides.
        processes: on each node.
    """

    command: tuple[str, ...]
    log: Path
    again: str
    nodes: int
    processes: int

    def __call__(self) -> int:
        """Start or resume the run; return the exit code of the team."""
        node = int(os.environ.get("SLURM_NODEID", "0"))
        _write_to(self.log, self.again, head=node == 0)
        name = f"winnow-{os.environ.get('SLURM_JOB_ID', 'none')}"
        meeting = f"{first_node(os.environ)}:{port(name)}" if self.nodes > 1 else "localhost:0"
        words = team_command(self.command, self.processes, name, self.nodes, meeting, node == 0)
        return stopped_at_checkpoints(words, without_torchrun(os.environ))

    def checkpoint(self) -> Any:
        """As `RemoteRun.checkpoint`."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def port(name: str) -> int:
    """The port where the nodes of a job meet."""
    return PORTS[int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(PORTS)]


def first_node(environment: Any) -> str:
    """The host name of a job's first node; Slurm itself expands its lists, e.g. node[01-04,07]."""
    nodes = environment.get("SLURM_JOB_NODELIST", "")
    if not any(character in nodes for character in "[,"):
        return nodes or socket.gethostname()
    listed = ["scontrol", "show", "hostnames", nodes]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[0]


def stopped_at_checkpoints(command: list[str], environment: dict[str, str]) -> int:
    """Run a command, which gets SIGTERM for USR2 or SIGTERM of this process; its exit code.

    When the command has ended after USR2, the former handler of USR2 is called.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        if process is not None:
            process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        wrapper = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid())]
        linux = sys.platform.startswith("linux")
        process = subprocess.Popen([*(wrapper if linux else []), *command], env=environment)
        if received:  # before there was a process to pass it on to
            process.terminate()
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    requeue = before[signal.SIGUSR2]
    if signal.SIGUSR2 in received and callable(requeue):
        requeue(signal.SIGUSR2, None)
    return code


def _write_to(log: Path, again: str, head: bool = True) -> None:
    """Let this process write to the log, as with every launcher.

    Args:
        head: whether it begins an attempt there.
    """
    if head:
        place = f"Slurm job {os.environ.get('SLURM_JOB_ID')} on {socket.gethostname()}"
        begin_log(log, f"{again} ({place})")
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
