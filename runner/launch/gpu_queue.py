"""hydra/launcher=gpu_queue: jobs on the GPUs or cores of this machine, one process for each card.

The queue itself is runner/launch/queue.py.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.console import Console

from runner.engine.machine import Machine
from runner.errors import EXIT_FAILED, EXIT_STOPPED, ConfigError, one_of
from runner.launch.jobs import QueueJob
from runner.launch.options import too_small
from runner.launch.packing import Packing
from runner.launch.queue import Interrupted, run_queue, summary
from runner.launch.slots import Slot, machine_slots, unknown_numbers

ON_ERROR = ("continue", "stop")
LEAST = {
    "slots": 1,
    "jobs_per_gpu": 1,
    "gpus_per_job": 1,
    "slots_per_job": 1,
    "min_free_gb": 0,
    "grace_seconds": 0,
    "requeue": 0,
}
AGAIN = "repeat the command to continue"
STOPPED = f"stopped: the running jobs wrote checkpoints; {AGAIN}"


@dataclass(frozen=True)
class GpuQueue:
    """The queue of one machine, configured by conf/hydra/launcher/gpu_queue.yaml.

    Args:
        slots: concurrent jobs on CPUs, each with cores / slots threads. None = one per core, or one
            per `env.threads` cores if that is set: on small images, two one-threaded jobs do 1.67
            times the work of one job with two threads (measured).
        jobs_per_gpu: jobs that share a GPU.
        gpus_per_job: GPUs of a job, which torchrun starts with one process for each.
        slots_per_job: the same for jobs on CPUs: a job has as many slots, each with one process.
        sizes: model -> GPUs (on CPUs: slots) of its jobs, instead of the number above.
        min_free_gb: no job starts on a GPU with less free memory (GiB). Checked when a job starts;
            MIG instances are not checked.
        on_error: `continue` runs the other jobs; `stop` starts no further job.
        fork: jobs are forks of a process that has imported what they need; False = each job imports
            it anew.
        requeue: how often a job that a signal has killed is started again; it resumes.
        grace_seconds: time for jobs to write a checkpoint when the queue receives a stop signal.
    """

    tag: ClassVar[str] = "gpu_queue"
    at_a_time: ClassVar[str] = "hydra.launcher.slots sets how many run at a time"
    slots: int | None = None
    jobs_per_gpu: int = 1
    gpus_per_job: int = 1
    slots_per_job: int = 1
    sizes: dict[str, int] | None = None
    min_free_gb: float = 0.0
    on_error: str = "continue"
    grace_seconds: float = 60.0
    fork: bool = True
    requeue: int = 0

    def __post_init__(self) -> None:
        problems = too_small(self, LEAST)
        if self.on_error not in ON_ERROR:
            problems.insert(0, one_of("on_error", self.on_error, ON_ERROR))
        problems += [
            f"sizes.{model}={size} must be at least 1"
            for model, size in (self.sizes or {}).items()
            if size < 1
        ]
        if problems:
            raise ConfigError(*problems)

    def run(
        self, jobs: Sequence[QueueJob], machine: Machine, threads: int | None, console: Console
    ) -> tuple[int, str]:
        """`Launcher.run`."""
        if not hasattr(os, "killpg"):
            raise ConfigError(
                "hydra/launcher=gpu_queue needs process groups, which this system lacks: it runs on"
                " Linux and macOS; a sweep without hydra/launcher runs its jobs one after another"
            )
        slots = self.slots_on(machine, threads)
        missing = [job for job in self.sized(jobs, slots) if not job.done()]
        if self.min_free_gb and (numbers := unknown_numbers(slots)):
            raise ConfigError(
                f"min_free_gb={self.min_free_gb:g}: the memory of GPU {numbers[0]} is unknown,"
                " because CUDA_DEVICE_ORDER numbers the GPUs otherwise than nvidia-smi; set"
                " CUDA_DEVICE_ORDER=PCI_BUS_ID, or name GPU- identifiers in CUDA_VISIBLE_DEVICES"
            )
        try:
            ended = run_queue(
                missing,
                slots,
                console,
                on_error=self.on_error,
                grace_seconds=self.grace_seconds,
                min_free_gb=self.min_free_gb,
                fork=self.fork,
                requeue=self.requeue,
            )
        except Interrupted as stop:
            failed = summary([outcome for outcome in stop.ended if not outcome.stopped], missing)
            return EXIT_STOPPED, f"{failed}\nstopped; {AGAIN}" if failed else STOPPED
        message = summary(ended, missing)
        return (EXIT_FAILED if message else 0), message

    def job_threads(self, machine: Machine, threads: int | None) -> int | None:
        """`Launcher.job_threads`."""
        return self.slots_on(machine, threads)[0].threads

    def job_processes(self, model: str) -> int:
        """`Launcher.job_processes`; a plan can be made on a machine without the cards."""
        return (self.sizes or {}).get(model, max(self.gpus_per_job, self.slots_per_job))

    def sized(self, jobs: Sequence[QueueJob], slots: Sequence[Slot]) -> list[QueueJob]:
        """The jobs with the number of slots that each needs.

        Raises:
            ConfigError: a job would never fit, or an option has no effect here.
        """
        cards = slots[0].gpu is not None
        own, other = ("gpus_per_job", "slots_per_job")[:: 1 if cards else -1]
        each, idle = getattr(self, own), getattr(self, other)
        models = sorted({job.model for job in jobs})
        problems = [
            one_of("sizes", model, models) for model in self.sizes or {} if model not in models
        ]
        if idle > 1:
            where = "on GPUs" if cards else "on CPUs"
            problems.append(f"{other}={idle} has no effect: the jobs run {where}; set {own}={idle}")
        found = [replace(job, size=(self.sizes or {}).get(job.model, each)) for job in jobs]
        problems += _too_large({own: each, **_keys(self.sizes)}, found, slots)
        if problems:
            raise ConfigError(*problems)
        return found

    def slots_on(self, machine: Machine, threads: int | None) -> list[Slot]:
        """The slots on the machine's type of device; `threads` as for `run`."""
        import torch  # here: `make plan` reads the options of the queue without torch

        cards = torch.cuda.device_count() if machine.device.type == "cuda" else 0
        jobs_per_gpu = self.jobs_per_gpu
        return machine_slots(cards, slots=self.slots, jobs_per_gpu=jobs_per_gpu, threads=threads)


def _keys(sizes: dict[str, int] | None) -> dict[str, int]:
    return {f"sizes.{model}": size for model, size in (sizes or {}).items()}


def _too_large(
    options: dict[str, int], jobs: Sequence[QueueJob], slots: Sequence[Slot]
) -> list[str]:
    """A message for each option by which some of the jobs could never start."""
    gpus = [slot.gpu for slot in slots]
    most, used = Packing(gpus).largest, {job.size for job in jobs}
    what = "GPUs" if gpus[0] is not None else "slots (hydra.launcher.slots)"
    problems = [
        f"{key}={size}: this machine has {most} {what} for jobs; use at most {most}"
        for key, size in options.items()
        if size > most and size in used
    ]
    parts = [gpu for gpu in gpus if gpu is not None and gpu.startswith("MIG-")]
    if parts and max(used, default=1) > 1 and not problems:
        problems = [
            f"{key}={size}: CUDA shows a process one MIG instance only; use 1"
            for key, size in options.items()
            if size > 1
        ]
    return problems
