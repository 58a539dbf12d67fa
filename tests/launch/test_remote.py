"""Jobs of several processes on Slurm, without Slurm: what each node starts, and its signals."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import environment
from small_jobs import HANGS, PRELUDE

from runner.errors import ConfigError
from runner.launch.jobs import QueueJob
from runner.launch.remote import PORTS, RemoteRun, RemoteTeam, first_node, port
from runner.launch.slurm import Slurm, remote_run

MEMBER = "(F / os.environ['RANK']).write_text(os.environ['LOCAL_RANK'])\n"
# A node of a job: submitit calls the job in a process of its own, with its handler of USR2.
NODE = """
import os, signal, sys
from pathlib import Path
from runner.launch.remote import RemoteTeam
folder = Path(sys.argv[1])
signal.signal(signal.SIGUSR2, lambda *_: ((folder / "requeued").touch(), os._exit(7)))
command = (sys.executable, sys.argv[2], str(folder))
sys.exit(RemoteTeam(command, folder / "run.log", "again", int(sys.argv[3]), int(sys.argv[4]))())
"""


def node(
    folder: Path, does: str, nodes: int, processes: int, number: int = 0
) -> subprocess.Popen[bytes]:
    script = folder / "job.py"
    script.write_text(PRELUDE + MEMBER + does)
    slurm = {
        "SLURM_JOB_ID": f"{os.getpid()}",
        "SLURM_NODEID": f"{number}",
        "SLURM_JOB_NODELIST": "localhost",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.Popen(
        [sys.executable, "-c", NODE, str(folder), str(script), str(nodes), str(processes)],
        env={**environment(), **slurm},
        cwd=folder,
    )


def job(folder: Path, *overrides: str) -> QueueJob:
    return QueueJob("job", ("python", "run.py", *overrides), folder / "job", lambda: False)


def test_a_job_of_several_nodes_or_cards_is_a_team(tmp_path: Path) -> None:
    alone = remote_run(job(tmp_path, "seed=1"), Slurm(gpus_per_node=1, cpus_per_task=8))
    assert isinstance(alone, RemoteRun) and "env.threads=8" in alone.overrides
    team = remote_run(job(tmp_path, "seed=1"), Slurm(nodes=2, gpus_per_node=4, cpus_per_task=8))
    assert isinstance(team, RemoteTeam) and (team.nodes, team.processes) == (2, 4)
    assert team.command == ("python", "run.py", "seed=1", "env.threads=2")
    cores = remote_run(job(tmp_path, "env.threads=3"), Slurm(nodes=2))
    assert isinstance(cores, RemoteTeam) and (cores.nodes, cores.processes) == (2, 1)
    assert cores.command == ("python", "run.py", "env.threads=3")
    assert Slurm(nodes=2, gpus_per_node=8).job_processes("any") == 16
    parameters = Slurm(nodes=2, gpus_per_node=8).parameters()
    assert [parameters[key] for key in ("nodes", "tasks_per_node", "gpus_per_node")] == [2, 1, 8]


def test_nodes_are_counted_from_one() -> None:
    with pytest.raises(ConfigError, match="nodes=0 must be at least 1"):
        Slurm(nodes=0)


def test_all_nodes_meet_at_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "scontrol"
    tool.write_text('#!/bin/sh\n[ "$3" = "gpu[03-04]" ] && echo gpu03 && echo gpu04\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert first_node({"SLURM_JOB_NODELIST": "gpu[03-04]"}) == "gpu03"
    assert first_node({"SLURM_JOB_NODELIST": "gpu07"}) == "gpu07"
    assert port("winnow-1") == port("winnow-1") in PORTS
    assert len({port(f"winnow-{i}") for i in range(100)}) > 90  # jobs that share a node


def test_two_nodes_form_one_team(tmp_path: Path) -> None:
    nodes = [node(tmp_path, "", 2, 1, number) for number in range(2)]
    assert [each.wait(HANGS) for each in nodes] == [0, 0], (tmp_path / "run.log").read_text()
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["0", "0"]
    assert (tmp_path / "run.log").read_text().count("==== ") == 1  # one attempt, by the first node


def when_ready(folder: Path, process: subprocess.Popen[bytes], number: int) -> threading.Thread:
    """Signal all processes of a job, as Slurm does, when two of them are ready."""

    def send() -> None:
        end = time.monotonic() + HANGS
        while len(list(folder.glob("ready*"))) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        for pid in family(process.pid):
            os.kill(pid, number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def family(pid: int) -> list[int]:
    """A process and its descendants (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


WAITS = """
def stop(*_):
    time.sleep(0.3)  # for the checkpoint
    (F / f"saved{os.environ['RANK']}").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(F / f"ready{os.environ['RANK']}").touch()
until("never")
"""


@pytest.mark.parametrize(
    ("number", "code", "requeued"), [(signal.SIGUSR2, 7, True), (signal.SIGTERM, 143, False)]
)
def test_slurms_warning_stops_all_processes_before_the_job_is_queued_again(
    number: int, code: int, requeued: bool, tmp_path: Path
) -> None:
    process = node(tmp_path, WAITS, 1, 2)
    thread = when_ready(tmp_path, process, number)
    assert process.wait(HANGS) == code, (tmp_path / "run.log").read_text()
    thread.join()
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"]
    assert (tmp_path / "requeued").exists() == requeued


def test_a_job_can_be_sent_to_a_node(tmp_path: Path) -> None:
    import pickle

    team = RemoteTeam(("python", "run.py"), tmp_path / "run.log", "again", 2, 8)
    assert pickle.loads(pickle.dumps(team)) == team
    assert json.dumps(team.command)
