"""Where jobs may run on this machine: cards as CUDA_VISIBLE_DEVICES names them, or cores. Pure functions of what nvidia-smi prints, but for the last two."""

import os
import subprocess
from dataclasses import dataclass, field

from runner.errors import ConfigError, one_of

ON_ERROR = ("continue", "stop")


@dataclass(frozen=True)
class Slot:
    """Where a job runs: the variables that its process gets, and the card that it has to itself or shares."""

    environment: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()  # further overrides, unless the job has its own value
    gpu: str | None = None
    threads: int | None = None  # of torch; None = torch's choice


@dataclass(frozen=True)
class Options:
    """How a queue behaves: hydra/launcher=gpu_queue, or words of `make reproduce`.

    Args:
        slots: jobs at a time on CPUs; None = one a core, with one thread each: 1.67 times the work of one job with two threads on small images (measured).
        jobs_per_gpu: jobs that share a card.
        min_free_gb: a card with less free memory gets no further job.
        on_error: `continue` with the other jobs, or `stop`: begin no further one.
        grace_seconds: time that jobs get to checkpoint when the queue is asked to stop.
    """

    slots: int | None = None
    jobs_per_gpu: int = 1
    min_free_gb: float = 0.0
    on_error: str = "continue"
    grace_seconds: float = 60.0

    def __post_init__(self) -> None:
        problems = [one_of("on_error", self.on_error, ON_ERROR)] if self.on_error not in ON_ERROR else []
        for name, least in (("slots", 1), ("jobs_per_gpu", 1), ("min_free_gb", 0), ("grace_seconds", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                problems.append(f"{name}={value} must be at least {least}")
        if problems:
            raise ConfigError(*problems)


def gpu_ids(visible: str | None, listing: str) -> list[str]:
    """The cards that jobs may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        visible: an inherited CUDA_VISIBLE_DEVICES: indices, GPU- or MIG- identifiers; "" hides all cards; None = not set.
        listing: what `nvidia-smi -L` prints. Of a card that is cut into MIG parts, the parts count and the card does not.
    """
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]  # CUDA reads up to the first that is none
    found: list[str] = []
    card: str | None = None
    for line in listing.splitlines():
        if line.startswith("GPU "):
            found += [card] if card else []
            card = line.split()[1].rstrip(":")
        elif "(UUID: MIG-" in line:
            card = None
            found.append(line.rpartition("(UUID: ")[2].rstrip(") "))
    return found + ([card] if card else [])


def slots_of(gpus: list[str], cores: int, options: Options) -> list[Slot]:
    """GPU slots where there are cards, else CPU slots with threads = cores / slots."""
    if gpus:
        return [Slot({"CUDA_VISIBLE_DEVICES": name}, ("env.device=cuda",), name) for name in gpus for _ in range(options.jobs_per_gpu)]
    count = options.slots or cores
    threads = max(1, cores // count)
    return [Slot({"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}, (f"env.threads={threads}",), threads=threads) for _ in range(count)]


def free_gb(listing: str, gpu: str) -> float | None:
    """Free memory of a card in GiB from `nvidia-smi --query-gpu=index,uuid,memory.free`; None where it does not say, as for MIG parts."""
    for line in listing.splitlines():
        index, uuid, free = (word.strip() for word in line.split(","))
        if gpu == index or uuid.startswith(gpu):  # CUDA takes the beginning of an identifier too
            return float(free) / 1024 if free.replace(".", "").isdigit() else None
    return None


def machine_slots(options: Options, device: str = "auto") -> list[Slot]:
    """The slots of this machine."""
    gpus = [] if device == "cpu" else gpu_ids(os.environ.get("CUDA_VISIBLE_DEVICES"), _nvidia_smi("-L"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return slots_of(gpus, cores, options)


def has_room(slot: Slot, options: Options) -> bool:
    """Whether a slot's card has the free memory that is asked for."""
    if slot.gpu is None or not options.min_free_gb:
        return True
    free = free_gb(_nvidia_smi("--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"), slot.gpu)
    return free is None or free >= options.min_free_gb


def _nvidia_smi(*words: str) -> str:
    try:
        return subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
