"""Where jobs may run on this machine: cards as CUDA_VISIBLE_DEVICES names them, or cores.

Pure functions of what nvidia-smi prints, but for the last three.
"""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MEMORY_SECONDS = 2.0  # between two questions for free memory


@dataclass(frozen=True)
class Slot:
    """Where a job runs: the variables that its process gets, and the card that it has to itself or shares."""

    environment: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()  # further ones, unless the job has its own value
    gpu: str | None = None
    threads: int | None = None  # of torch; None = torch's choice


def gpu_ids(visible: str | None, listing: str, count: int = 0) -> list[str]:
    """The cards that jobs may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        visible: an inherited CUDA_VISIBLE_DEVICES: indices, GPU- or MIG- identifiers; "" hides all cards; None = not set.
        listing: what `nvidia-smi -L` prints. Of a card that is cut into MIG parts, the parts count and the card does not.
        count: cards that torch sees: where nothing is inherited and there is no nvidia-smi, as in some containers.
    """
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]  # CUDA reads up to the first that is none
    if not listing:
        return [str(index) for index in range(count)]
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


def slots_of(gpus: list[str], cores: int, *, slots: int | None = None, jobs_per_gpu: int = 1, threads: int | None = None) -> list[Slot]:
    """GPU slots where there are cards, one on each before a second on any; else CPU slots with threads = cores / slots.

    Args:
        slots: jobs at a time on CPUs; None = one a core, or one for `threads` cores where that is set.
        jobs_per_gpu: jobs that share a card.
        threads: env.threads where the user has set it.
    """
    if gpus:
        return [Slot({"CUDA_VISIBLE_DEVICES": name}, ("env.device=cuda",), name) for _ in range(jobs_per_gpu) for name in gpus]
    count = slots or max(1, cores // (threads or 1))
    each = threads or max(1, cores // count)
    return [Slot({"OMP_NUM_THREADS": str(each), "CUDA_VISIBLE_DEVICES": ""}, (f"env.threads={each}",), threads=each) for _ in range(count)]


def free_gb(listing: str, gpu: str) -> float | None:
    """Free memory of a card in GiB from `nvidia-smi --query-gpu=index,uuid,memory.free`; None where it does not say, as for MIG parts."""
    for line in listing.splitlines():
        index, uuid, free = (word.strip() for word in line.split(","))
        if gpu == index or uuid.startswith(gpu):  # CUDA takes the beginning of an identifier too
            return float(free) / 1024 if free.replace(".", "").isdigit() else None
    return None


def machine_slots(cards: int, *, slots: int | None = None, jobs_per_gpu: int = 1, threads: int | None = None) -> list[Slot]:
    """The slots of this machine; `slots_of` says what they are.

    Args:
        cards: that torch sees; 0 where the jobs are to run on the CPU.
    """
    gpus = gpu_ids(os.environ.get("CUDA_VISIBLE_DEVICES"), _nvidia_smi("-L"), cards) if cards else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return slots_of(gpus, cores, slots=slots, jobs_per_gpu=jobs_per_gpu, threads=threads)


class FreeMemory:
    """Whether a slot's card has enough free memory, at least `min_free_gb` GiB; yes where nvidia-smi does not tell."""

    def __init__(self, min_free_gb: float, say: Callable[[str], None]) -> None:
        self.least, self.say = min_free_gb, say
        self.listing, self.listed_at, self.named = "", -MEMORY_SECONDS, set[str]()

    def __call__(self, slot: Slot) -> bool:
        """Look at the card's memory; a card that keeps jobs waiting is named once."""
        if slot.gpu is None or not self.least:
            return True
        if time.monotonic() - self.listed_at >= MEMORY_SECONDS:
            self.listing = _nvidia_smi("--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits")
            self.listed_at = time.monotonic()
        free = free_gb(self.listing, slot.gpu)
        enough = free is None or free >= self.least
        if not enough and slot.gpu not in self.named:
            self.named.add(slot.gpu)
            self.say(f"waiting: GPU {slot.gpu} has {free:.1f} GiB free, min_free_gb={self.least:g}")
        return enough


def _nvidia_smi(*arguments: str) -> str:
    try:
        return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
