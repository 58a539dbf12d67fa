"""The message for an error that ended a run, in particular for a device without enough memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from runner.engine.memory import GIB

BATCH = "batch_size"  # options whose value bounds the memory of a step


def describe(error: Exception, values: Mapping[str, Any]) -> tuple[str, str]:
    """The message for an error, and details for the traceback file.

    Args:
        values: the run's configuration, to name the keys that need memory.
    """
    first = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, torch.OutOfMemoryError):
        where, details = f"GPU out of memory{_peak()}", _summary()
    elif isinstance(error, MemoryError) or "DefaultCPUAllocator" in first:
        where, details = "out of memory", ""
    else:
        return f"{type(error).__name__}: {error}", ""
    batches = ", ".join(f"{key}={value}" for key, value in _batches(values))
    smaller = f" smaller batches ({batches}), which is another experiment if it is the training's;"
    remedy = (
        "  what to change: in a stage that scores or measures, a smaller env.memory_gb, which"
        f" changes only rounding;{smaller if batches else ''} fewer jobs at a time"
        " (hydra.launcher.jobs_per_gpu on GPUs, hydra.launcher.slots on CPUs); or more memory"
    )
    return f"{where}: {first}\n{remedy}", details


def _batches(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The batch sizes that a configuration sets, by key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _batches(value, f"{prefix}{key}.")
        elif key == BATCH and value is not None:
            yield f"{prefix}{key}", value


def _peak() -> str:
    """What this process had allocated at most; empty without a GPU."""
    if not torch.cuda.is_available():
        return ""
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    peak = torch.cuda.max_memory_allocated()
    return f" (this run needed more than {peak / GIB:.1f} GiB of the GPU's {total / GIB:.1f} GiB)"


def _summary() -> str:
    """Torch's table of the GPU's memory; empty without a GPU."""
    return f"\n{torch.cuda.memory_summary()}" if torch.cuda.is_available() else ""
