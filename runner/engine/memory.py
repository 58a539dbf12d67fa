"""The bound on the memory of derivatives: env.memory_gb, or half of what is free.

The other half is for what no graph holds: weights, images, gradients and the workspace of kernels.
Nothing here is part of a run's identity: a batch that fits is computed at once, and the parts of
another one give the same result up to rounding. The record states the bound.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engine.machine import Machine
from runner.torchrun import processes_here

if TYPE_CHECKING:
    import torch

GIB = 2**30
SHARE = 0.5  # of the free memory
STEP = GIB // 16  # a bound that was found is a multiple of this, and at least this
KERNEL, GROUPS, OWN_GROUPS = (
    Path("/proc/meminfo"),
    Path("/sys/fs/cgroup"),
    Path("/proc/self/cgroup"),
)


def memory_bound(machine: Machine) -> float:
    """Bytes that the graphs of derivatives may take on the machine's device.

    inf where this system does not tell how much memory it has.
    """
    if machine.memory_gb is not None:
        return machine.memory_gb * GIB
    own = machine.device.type == "cuda"
    free = free_on_device(machine.device) if own else free_on_host() / processes_here()
    return free if free == inf else max(1, int(SHARE * free) // STEP) * STEP


def described(machine: Machine) -> str:
    """The bound as a line of a plan."""
    bound = memory_bound(machine)
    if bound == inf:
        return "memory: no bound on derivatives (set env.memory_gb)"
    origin = "env.memory_gb" if machine.memory_gb is not None else "half of what is free now"
    return (
        f"memory: the graphs of derivatives take at most {bound / GIB:.4g} GiB ({origin}); larger"
        " batches of scores and Hessians are computed in parts"
    )


def free_on_device(device: torch.device) -> float:
    """Free bytes of a CUDA device, with those that torch keeps in reserve."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_on_host() -> float:
    """Bytes of main memory that this process can still take; inf if unknown."""
    return min([_kernels_estimate(), *_left_in_groups()])


def _kernels_estimate() -> float:
    """Linux' MemAvailable; elsewhere the machine's whole memory."""
    if KERNEL.is_file() and (found := re.search(r"MemAvailable:\s+(\d+) kB", KERNEL.read_text())):
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has none of these
        return inf


def _left_in_groups() -> Iterator[float]:
    """What each control group of this process may still take, as in containers and under Slurm."""
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, limit, used = GROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top = GROUPS / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                yield _left(group / limit, group / used, group / "memory.stat")


def _left(limit: Path, used: Path, statistics: Path) -> float:
    """The limit of a group less what it uses; file pages that the kernel can drop are free."""
    try:
        most, taken = limit.read_text().strip(), int(used.read_text())
        pages = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics.read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return inf
    if most == "max":
        return inf
    return max(0, int(most) - taken + (int(pages[1]) if pages else 0))
