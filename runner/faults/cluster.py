"""A real Slurm of two nodes on this machine; its daemons run as root in one directory."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")

CONF = """\
ClusterName=winnow
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its old credential has expired: two minutes by default.
AuthInfo=socket={root}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=3600
MaxArraySize=4
JobSubmitPlugins=lua
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores} State=UNKNOWN
NodeName={second} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=pair Nodes={host},{second} MaxTime=INFINITE State=UP
"""
SECOND = "localhost"  # the second node's name, which leads to this machine, too

# Accounts and QOS exist only with an accounting database. This script of slurmctld refuses unknown
# ones with the same error numbers, so that sbatch ends as it does with a database.
JOB_SUBMIT = """\
function slurm_job_submit(job, parts, uid)
  if job.account ~= nil and job.account ~= "lab" then return 2045 end
  if job.qos ~= nil and job.qos ~= "low" then return 2066 end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, parts, uid)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


def missing() -> list[str]:
    """Names of the programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def slurm(root: Path) -> Iterator[dict[str, str]]:
    """Start the daemons of Slurm in `root`, and yield the environment that its commands require.

    Its default partition has one node, and the partition `pair` has both.

    Raises:
        RuntimeError: the nodes did not become idle.
    """
    host = socket.gethostname().partition(".")[0]
    for name in ("state", f"spool-{host}", f"spool-{SECOND}"):
        (root / name).mkdir(parents=True)
    about = {"host": host, "second": SECOND, "root": root, "cores": os.cpu_count()}
    (root / "slurm.conf").write_text(CONF.format(ports=_free_ports(3), **about))
    (root / "job_submit.lua").write_text(JOB_SUBMIT)
    (root / "munge.key").write_bytes(os.urandom(128))
    (root / "munge.key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, line in enumerate(_daemons(root, host)):
            with (root / f"{line[0]}-{number}.out").open("wb") as out:
                running.append(
                    subprocess.Popen(
                        line, env=environment, stdout=out, stderr=out, start_new_session=True
                    )
                )
            time.sleep(1)
        _wait_for_nodes(environment, root)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        for process in reversed(running):
            process.terminate()
            process.wait(timeout=60)


def _daemons(root: Path, host: str) -> list[list[str]]:
    """The command lines of the daemons, in the order of their start."""
    munge = [f"--{what}-file={root / what}" for what in ("pid", "log", "seed")]
    return [
        [
            "munged",
            "--foreground",
            "--force",
            f"--key-file={root / 'munge.key'}",
            f"--socket={root / 'munge.socket'}",
            *munge,
        ],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-N", node] for node in (host, SECOND)),
    ]


def _wait_for_nodes(environment: dict[str, str], root: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True
        )
        if set(state.stdout.split()) == {"idle"}:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in root.glob("*.log"))
    raise RuntimeError(
        f"the nodes are not idle after a minute: {state.stdout}{state.stderr}\n{logs}"
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
