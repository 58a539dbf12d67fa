"""A sweep on a Slurm cluster: an array of jobs on a shared file system, submitted with submitit.

Each job is the same run as with `python run.py`. When it is preempted (`scontrol requeue`, a
partition's preemption) or reaches its time limit, it writes a checkpoint, Slurm queues it again,
and it resumes. The waiting process only calls squeue: no accounting database is needed.

Why submitit and not hydra-submitit-launcher (1.2.0), which wraps it: that launcher submits every
job of a sweep without checks, including finished and equal ones. It collects the results job by
job and raises the first failure, so the others are not reported. It detects a job that died without
a message (SIGKILL, a lost node) only through sacct, which needs an accounting database. The options
have the same names here.
"""

import contextlib
import io
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from runner.config.overrides import with_standing_folders
from runner.engine.machine import Machine
from runner.errors import EXIT_FAILED, ConfigError
from runner.launch.jobs import QueueJob, shared_first
from runner.launch.launcher import EXIT_WAITING
from runner.launch.options import too_small
from runner.launch.queue import summary
from runner.launch.remote import RemoteRun, RemoteTeam
from runner.launch.slurm_limits import array_size, refusal
from runner.launch.slurm_queue import wait_for_jobs
from runner.paths import ROOT

EARLY = 30  # seconds between Slurm's checks of time limits; a warning may come that much early
# The interpreter of a job, with the code of this checkout: neither the installed one nor, from
# Python 3.11 on, what the working directory has under the same names.
PYTHON = (
    f"env PYTHONSAFEPATH=1 PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"
    f" {shlex.quote(sys.executable)}"
)
START = 20  # seconds until a job can handle the warning; an earlier warning ends the job


@dataclass(frozen=True)
class Slurm:
    """One Slurm job per job, with the resources of conf/hydra/launcher/slurm.yaml.

    Args:
        timeout_min: time limit. A job that reaches it writes a checkpoint and is queued again, at
            most `max_num_timeout` times.
        signal_delay_s: seconds before the limit at which Slurm sends the warning (up to 30 s
            earlier): the time for the job to finish a step and write the checkpoint.
        array_parallelism: concurrent jobs of the sweep.
        nodes: nodes of a job.
        gpus_per_node: GPUs of a job on each node. A job with several GPUs or nodes is a team under
            torchrun, with one process for each GPU; without GPUs, with one on each node.
        cpus_per_task: CPUs of a job on each node, which its processes there share.
        extra: further sbatch options, e.g. {account: lab, qos: low}.
        poll_s: seconds between two polls of the queue.
    """

    tag: ClassVar[str] = "slurm"
    at_a_time: ClassVar[str] = "hydra.launcher.array_parallelism sets how many run at a time"
    timeout_min: int = 240
    cpus_per_task: int = 4
    nodes: int = 1
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    partition: str | None = None
    array_parallelism: int = 256
    max_num_timeout: int = 100
    signal_delay_s: int = 120
    poll_s: float = 10.0
    extra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        least = {
            "timeout_min": 1,
            "cpus_per_task": 1,
            "nodes": 1,
            "gpus_per_node": 0,
            "mem_gb": 0.1,
            "array_parallelism": 1,
            "max_num_timeout": 0,
            "signal_delay_s": 1,
            "poll_s": 0.1,
        }
        problems = too_small(self, least)
        if not problems and self.timeout_min * 60 < self.signal_delay_s + EARLY + START:
            problems.append(
                f"signal_delay_s={self.signal_delay_s} leaves a job of"
                f" timeout_min={self.timeout_min} no time: Slurm may warn {EARLY} s sooner, and a"
                f" job takes about {START} s to start; use at most"
                f" {self.timeout_min * 60 - EARLY - START}, or a larger timeout_min"
            )
        if problems:
            raise ConfigError(*problems)

    def run(
        self, jobs: Sequence[QueueJob], machine: Machine, threads: int | None, console: Console
    ) -> tuple[int, str]:
        """Submit the jobs that are not done and wait for them; see `Launcher.run`.

        Raises:
            ConfigError: Slurm or submitit is missing, or sbatch refuses the first array; nothing
                has been submitted.
        """
        missing = shared_first([job for job in jobs if not job.done()])
        if not missing:
            return 0, ""
        submitted: dict[str, QueueJob] = {}
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            refused = _submit(missing, self, submitted, console)
            ended = wait_for_jobs(dict(submitted), self.poll_s, console)
        except KeyboardInterrupt:
            return EXIT_WAITING, _left_alone(submitted, len(missing))
        finally:
            signal.signal(signal.SIGINT, before)
        message = "\n".join(filter(None, (summary(ended, missing), refused)))
        return (EXIT_FAILED if message else 0), message

    def job_threads(self, machine: Machine, threads: int | None) -> int:
        """`Launcher.job_threads`: one thread per CPU of the job on a node."""
        return threads or max(1, self.cpus_per_task // self.processes_per_node)

    def job_processes(self, model: str) -> int:
        """`Launcher.job_processes`."""
        return self.nodes * self.processes_per_node

    @property
    def processes_per_node(self) -> int:
        """The processes of a job on each node."""
        return max(1, self.gpus_per_node or 0)

    def parameters(self, after: str = "") -> dict[str, Any]:
        """The options under submitit's names.

        Args:
            after: id of the array whose end the jobs await; "" = none.
        """
        extra = dict(self.extra or {})
        if after:
            own = [str(extra["dependency"])] if "dependency" in extra else []
            extra["dependency"] = ",".join([*own, f"afterany:{after}"])
        parameters = {
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus_per_task,
            "nodes": self.nodes,
            "tasks_per_node": 1,
            "gpus_per_node": self.gpus_per_node,
            "mem_gb": self.mem_gb,
            "slurm_partition": self.partition,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_signal_delay_s": self.signal_delay_s,
            "slurm_job_name": "winnow",
            "slurm_additional_parameters": extra or None,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def _left_alone(submitted: dict[str, QueueJob], count: int) -> str:
    """The message after Ctrl-C: what continues, and what has not been submitted."""
    arrays = dict.fromkeys(identity.partition("_")[0] for identity in submitted)
    stop = f"; the jobs continue. To stop them: scancel {' '.join(arrays)}" if arrays else ""
    rest = count - len(submitted)
    left = f"\n{rest} jobs were not submitted; repeat the command to submit them" if rest else ""
    return f"no longer waiting{stop}{left}"


def _submit(
    jobs: list[QueueJob], options: Slurm, submitted: dict[str, QueueJob], console: Console
) -> str:
    """Submit the jobs as arrays of the size that the cluster allows, one after another.

    Args:
        submitted: the submitted jobs by their Slurm ids; this function adds to it.

    Returns:
        A message if sbatch refused an array after others had been submitted, else "".

    Raises:
        ConfigError: nothing has been submitted.
    """
    previous, size = "", array_size()
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        try:
            ids = _submit_array(part, options, previous)
        except ConfigError as error:
            if not submitted:
                raise
            left = len(jobs) - start
            return f"{error}\n{left} jobs were not submitted; repeat the command to submit them"
        submitted.update(zip(ids, part, strict=True))
        console.print(f"submitted as Slurm jobs {ids[0]} to {ids[-1]}")
        previous = ids[0].partition("_")[0] if size > 1 else ""
    return ""


def _submit_array(jobs: list[QueueJob], options: Slurm, previous: str) -> list[str]:
    """Submit the jobs as one array, which starts when the `previous` one has ended; their ids.

    Raises:
        ConfigError: Slurm or submitit is missing, or sbatch refuses the array.
    """
    try:
        import submitit  # optional
    except ImportError as error:
        raise ConfigError(
            "hydra/launcher=slurm needs submitit: pip install -e '.[slurm]'"
        ) from error
    try:
        executor = submitit.AutoExecutor(
            folder=_logs_of_slurm(jobs[0].folder.parent.parent) / "%j",
            cluster="slurm",
            slurm_max_num_timeout=options.max_num_timeout,
            slurm_python=PYTHON,
        )
    except RuntimeError as error:
        raise ConfigError(
            "hydra/launcher=slurm: there is no Slurm on this machine (sbatch is not in PATH); use"
            " hydra/launcher=gpu_queue"
        ) from error
    executor.update_parameters(**options.parameters(previous))
    runs = [remote_run(job, options) for job in jobs]
    try:
        # On a failure submitit also prints what the exception contains.
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():
            found = [executor.submit(each) for each in runs]
        return [str(job.job_id) for job in found]
    except (RuntimeError, OSError) as error:  # submitit: FailedJobError, FailedSubmissionError
        raise ConfigError(refusal(str(error))) from error


def _logs_of_slurm(results: Path) -> Path:
    """The folder of the files that Slurm and submitit write.

    Raises:
        ConfigError: Slurm would not open files there.
    """
    folder = results.resolve() / "slurm"
    if found := [character for character in "%\\\n" if character in str(folder)]:
        raise ConfigError(
            f"env.results_dir={results}: Slurm cannot write below a folder with"
            f" {' or '.join(map(repr, found))} in its name, because it replaces these in the names"
            " of its files; choose another folder"
        )
    return folder


def remote_run(job: QueueJob, options: Slurm) -> RemoteRun | RemoteTeam:
    """The job for a node, with one thread per CPU, unless its overrides set env.threads.

    The overrides follow the interpreter and run.py in the job's command.
    """
    overrides = tuple(with_standing_folders(job.command[2:]))
    each = options.processes_per_node
    if not any(override.startswith("env.threads=") for override in overrides):
        overrides = (*overrides, f"env.threads={max(1, options.cpus_per_task // each)}")
    job.folder.mkdir(parents=True, exist_ok=True)
    if options.nodes * each == 1:
        return RemoteRun(overrides, job.log.resolve(), job.again)
    command = (*job.command[:2], *overrides)
    return RemoteTeam(command, job.log.resolve(), job.again, options.nodes, each)
