"""A sweep on a Slurm cluster, through submitit: an array of jobs on a shared file system, safe against preemption because stages resume.

Each job is the same run that `python run.py` would do. Preempted (`scontrol requeue`, a partition's preemption) or out of time, it checkpoints, Slurm queues it
again, and it goes on where it was. The waiting process asks squeue alone: no accounting database is needed.

Why submitit itself, and not hydra-submitit-launcher (1.2.0), which wraps it: that one submits every job of a sweep, the finished and the equal ones too, and
checks none before; it takes the results job by job and raises the first failure, so that the others go unnamed; and it learns of a job that died without a word
(SIGKILL, a lost node) from sacct alone, which needs an accounting database. Its options have the same names here.
"""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.engine.execute import execute
from runner.engine.machine import Machine
from runner.errors import EXIT_FAILED, ConfigError, guarded
from runner.launch.jobs import Outcome, QueueJob, begin_log, last_message, shared_first
from runner.launch.launcher import EXIT_WAITING, print_lines
from runner.launch.options import too_small
from runner.launch.queue import summary

ABSENT = 3  # polls that a job has to be missing from the queue: requeued ones may be for a moment
EARLY = 30  # seconds: Slurm looks at its jobs' limits that often, and so may warn that much before it was asked to
START = 20  # seconds that a job needs before it can take a warning; one that comes before ends it


@dataclass(frozen=True)
class Slurm:
    """A Slurm job for each job: what it asks of the cluster (conf/hydra/launcher/slurm.yaml).

    Args:
        timeout_min: time limit; a job that reaches it checkpoints and is queued again, up to `max_num_timeout` times.
        signal_delay_s: seconds before the limit at which Slurm tells it (or up to 30 sooner): time to finish a step and write the checkpoint.
        array_parallelism: jobs of the sweep at a time.
        extra: further sbatch options, e.g. {account: lab, qos: low}.
        poll_s: seconds between two looks at the queue.
    """

    tag: ClassVar[str] = "slurm"
    at_a_time: ClassVar[str] = "hydra.launcher.array_parallelism says how many run at a time"
    timeout_min: int = 240
    cpus_per_task: int = 4
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    partition: str | None = None
    array_parallelism: int = 256
    max_num_timeout: int = 100
    signal_delay_s: int = 120
    poll_s: float = 10.0
    extra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        least = {"timeout_min": 1, "cpus_per_task": 1, "gpus_per_node": 0, "array_parallelism": 1, "max_num_timeout": 0, "signal_delay_s": 1, "poll_s": 0.1}
        problems = too_small(self, least)
        if not problems and self.timeout_min * 60 < self.signal_delay_s + EARLY + START:
            problems.append(
                f"signal_delay_s={self.signal_delay_s} leaves a job of timeout_min={self.timeout_min} no time: Slurm may warn {EARLY} s sooner, and a job "
                f"takes some {START} s to start; at most {self.timeout_min * 60 - EARLY - START}, or a larger timeout_min"
            )
        if problems:
            raise ConfigError(*problems)

    def run(self, jobs: Sequence[QueueJob], machine: Machine, threads: int | None, console: Console) -> tuple[int, str]:
        """Submit what is missing and wait for it; `Launcher.run`.

        Raises:
            ConfigError: no Slurm, or no submitit; nothing has been submitted then.
        """
        missing = shared_first([job for job in jobs if not job.done()])
        if not missing:
            return 0, ""
        ids = _submit(missing, self)
        console.print(f"submitted as Slurm jobs {ids[0]} to {ids[-1]}")
        try:
            ended = _wait(dict(zip(ids, missing, strict=True)), self.poll_s, console)
        except KeyboardInterrupt:
            return EXIT_WAITING, f"no longer waiting; the jobs go on. To stop them: scancel {ids[0].partition('_')[0]}"
        message = summary(ended, missing)
        return (EXIT_FAILED if message else 0), message

    def job_threads(self, machine: Machine, threads: int | None) -> int:
        """`Launcher.job_threads`: one for each CPU of the job."""
        return threads or self.cpus_per_task

    def parameters(self) -> dict[str, Any]:
        """The options by submitit's names."""
        plain = {name: value for name, value in asdict(self).items() if name in ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")}
        slurm = {"slurm_partition": self.partition, "slurm_array_parallelism": self.array_parallelism, "slurm_signal_delay_s": self.signal_delay_s}
        found = {**plain, **slurm, "slurm_job_name": "winnow", "slurm_additional_parameters": self.extra or None}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class RemoteRun:
    """A run as submitit sends it to a node."""

    overrides: tuple[str, ...]
    log: Path
    again: str

    def __call__(self) -> int:
        """Do the run, or go on with it; the exit code that run.py would have."""
        begin_log(self.log, f"{self.again} (Slurm job {os.environ.get('SLURM_JOB_ID')} on {socket.gethostname()})")
        with self.log.open("ab") as file:  # beside the record, as with every launcher
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        return guarded(lambda: execute(read_request(compose_config(list(self.overrides)))))

    def checkpoint(self) -> Any:
        """What is queued again when the time is up: the same run, which finds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _submit(jobs: list[QueueJob], options: Slurm) -> list[str]:
    """Submit the jobs as one array; their Slurm ids."""
    try:
        import submitit  # optional
    except ImportError as error:
        raise ConfigError("hydra/launcher=slurm needs submitit: pip install 'winnow[slurm]'") from error
    folder = jobs[0].folder.parent.parent / "slurm"
    try:
        executor = submitit.AutoExecutor(folder=folder.resolve() / "%j", cluster="slurm", slurm_max_num_timeout=options.max_num_timeout)
    except RuntimeError as error:
        raise ConfigError("hydra/launcher=slurm: there is no Slurm on this machine (sbatch is not in PATH); take hydra/launcher=gpu_queue") from error
    executor.update_parameters(**options.parameters())
    with executor.batch():
        found = [executor.submit(remote_run(job, options)) for job in jobs]
    return [str(job.job_id) for job in found]


def remote_run(job: QueueJob, options: Slurm) -> RemoteRun:
    """The job's overrides, which follow the interpreter and run.py in its command, with as many threads as it has CPUs."""
    overrides = job.command[2:]
    threads = () if any(override.startswith("env.threads=") for override in overrides) else (f"env.threads={options.cpus_per_task}",)
    job.folder.mkdir(parents=True, exist_ok=True)
    return RemoteRun((*overrides, *threads), job.log.resolve(), job.again)


def _wait(jobs: dict[str, QueueJob], poll: float, console: Console) -> list[Outcome]:
    """Wait until every job has left the queue; done is what has its record."""
    begun, missed, ended = time.time(), dict.fromkeys(jobs, 0), list[Outcome]()
    before = {identity: job.log.stat().st_size if job.log.is_file() else 0 for identity, job in jobs.items()}  # where this attempt's output begins
    while jobs:
        time.sleep(poll)
        queued = queued_jobs(list(jobs))
        if queued is None:
            continue  # the controller does not answer: ask again
        for identity in [i for i in jobs if i not in queued]:
            missed[identity] += 1
            if not jobs[identity].done() and missed[identity] < ABSENT:
                continue
            job = jobs.pop(identity)
            how = "" if job.done() else "left Slurm's queue without a result"
            ended.append(Outcome(job, 0, time.time() - begun, not how, how, last_message(job.log, before[identity])))
            print_lines(console, f"{'failed' if how else 'done'}: {job.name} (Slurm job {identity})")
        for identity in queued & missed.keys():
            missed[identity] = 0
    return ended


def queued_jobs(ids: list[str]) -> set[str] | None:
    """Those of the jobs that wait or run; None when Slurm does not say."""
    arrays = sorted({identity.partition("_")[0] for identity in ids})
    line = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(arrays)}"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        return set() if "Invalid job id" in done.stderr else None  # forgotten: all have ended
    return set(done.stdout.split())
