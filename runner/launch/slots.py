"""Slots for jobs on this machine: GPUs as CUDA_VISIBLE_DEVICES names them, or cores.

All functions but `machine_slots` and `_nvidia_smi` depend on their arguments only, e.g. on the
output of nvidia-smi. `FreeMemory` calls nvidia-smi.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from runner.processes import cores

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"  # nvidia-smi's numbers; CUDA's own default is FASTEST_FIRST
MEMORY_SECONDS = 2.0  # between two queries of the free memory


@dataclass(frozen=True)
class Slot:
    """Where a job runs: the environment variables of its process, and its GPU if it has one."""

    environment: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()  # added to the job's command unless it sets the same keys
    gpu: str | None = None
    threads: int | None = None  # of torch; None = torch's default


def joined(slots: Sequence[Slot]) -> Slot:
    """One slot with the GPUs of these, or with the threads that each process of a team has."""
    first = slots[0]
    if len(slots) == 1 or first.gpu is None:
        return first
    gpus = ",".join(slot.gpu for slot in slots if slot.gpu)
    return replace(first, environment={**first.environment, VISIBLE: gpus}, gpu=gpus)


def gpu_ids(visible: str | None, listing: str, count: int | None = None) -> list[str]:
    """The GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        visible: the inherited CUDA_VISIBLE_DEVICES: indices, GPU- or MIG- identifiers; "" hides all
            GPUs; None = not set.
        listing: the output of `nvidia-smi -L`. A GPU that is divided into MIG instances is replaced
            by these instances.
        count: number of GPUs that torch finds. Of inherited indices, CUDA ignores the first invalid
            one and all after it. If nothing is inherited and there is no nvidia-smi, as in some
            containers, the names are indices.
    """
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        names = names[: names.index("-1")] if "-1" in names else [name for name in names if name]
        return names[:count] if all(name.isdigit() for name in names) else names
    if not listing:
        return [str(index) for index in range(count or 0)]
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


def slots_of(
    gpus: list[str],
    cores: int,
    *,
    slots: int | None = None,
    jobs_per_gpu: int = 1,
    threads: int | None = None,
    order: str = BY_BUS,
) -> list[Slot]:
    """GPU slots if there are GPUs, else CPU slots with cores / slots threads each.

    GPU slots are ordered so that each GPU gets one job before any GPU gets a second.

    Args:
        slots: concurrent jobs on CPUs; None = one per core, or one per `threads` cores if set.
        jobs_per_gpu: jobs that share a GPU.
        threads: env.threads if the user has set it.
        order: CUDA_DEVICE_ORDER, by which CUDA numbers the GPUs.
    """
    if gpus:
        return [
            Slot({VISIBLE: name, ORDER: order}, ("env.device=cuda",), name)
            for _ in range(jobs_per_gpu)
            for name in gpus
        ]
    count = slots or max(1, cores // (threads or 1))
    each = threads or max(1, cores // count)
    environment = {"OMP_NUM_THREADS": str(each), VISIBLE: ""}
    return [Slot(environment, (f"env.threads={each}",), threads=each) for _ in range(count)]


def free_gb(listing: str, gpu: str) -> float | None:
    """Free memory of a GPU in GiB, or None if unknown, as for MIG instances.

    Args:
        listing: the output of `nvidia-smi --query-gpu=index,uuid,memory.free`, in MiB.
        gpu: nvidia-smi's index, or an identifier.
    """
    for line in listing.splitlines():
        index, uuid, free = ([word.strip() for word in line.split(",")] + ["", ""])[:3]
        if gpu == index or uuid.startswith(gpu):  # CUDA also accepts a prefix of an identifier
            return float(free) / 1024 if free.replace(".", "").isdigit() else None
    return None


def machine_slots(
    cards: int, *, slots: int | None = None, jobs_per_gpu: int = 1, threads: int | None = None
) -> list[Slot]:
    """The slots of this machine; see `slots_of`.

    The environment's CUDA_DEVICE_ORDER applies to inherited indices only: other indices are those
    of nvidia-smi.

    Args:
        cards: number of GPUs that torch finds; 0 if the jobs are to run on the CPU.
    """
    gpus, visible = list[str](), os.environ.get(VISIBLE)
    if cards:
        gpus = gpu_ids(visible, "" if visible is not None else _nvidia_smi("-L"), cards)
    return slots_of(
        gpus,
        cores(),
        slots=slots,
        jobs_per_gpu=jobs_per_gpu,
        threads=threads,
        order=BY_BUS if visible is None else os.environ.get(ORDER, BY_BUS),
    )


def unknown_numbers(slots: Sequence[Slot]) -> list[str]:
    """Indices of GPUs that are not nvidia-smi's, because the user has set CUDA_DEVICE_ORDER."""
    return [
        slot.gpu
        for slot in slots
        if slot.gpu and slot.gpu.isdigit() and slot.environment[ORDER] != BY_BUS
    ]


class FreeMemory:
    """Whether a slot's GPU has at least `min_free_gb` GiB of free memory; True if it is unknown."""

    def __init__(self, min_free_gb: float, say: Callable[[str], None]) -> None:
        self.least, self.say = min_free_gb, say
        self.listing, self.listed_at = "", -MEMORY_SECONDS
        self.reported = set[str]()  # GPUs with too little memory, each reported once

    def __call__(self, slot: Slot) -> bool:
        """Check the GPU's free memory; the first failed check of each GPU prints a message."""
        if slot.gpu is None or not self.least:
            return True
        if time.monotonic() - self.listed_at >= MEMORY_SECONDS:
            query = "--query-gpu=index,uuid,memory.free"
            self.listing = _nvidia_smi(query, "--format=csv,noheader,nounits")
            self.listed_at = time.monotonic()
        free = free_gb(self.listing, slot.gpu)
        enough = free is None or free >= self.least
        if not enough and slot.gpu not in self.reported:
            self.reported.add(slot.gpu)
            self.say(f"waiting: GPU {slot.gpu} has {free:.1f} GiB free, min_free_gb={self.least:g}")
        return enough


def _nvidia_smi(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
