"""The machine that executes a run, and its limits.

Nothing here is part of a run's identity; all of it is recorded. torch is imported when a machine is
prepared, and not where only its folders are read.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runner.display.progress import MODES
from runner.engine.allocator import keep_freed_memory
from runner.engine.devices import chosen, refused
from runner.errors import ConfigError, one_of
from runner.processes import cores
from runner.spec.request import Environment
from runner.torchrun import processes_here

if TYPE_CHECKING:
    import torch

    from runner.engine.distributed import ProcessGroup
    from runner.engine.profile import Profile

MOST_WORKERS = 16  # limit of the default of env.workers


def _alone() -> ProcessGroup:
    from runner.engine.distributed import ALONE

    return ALONE


@dataclass(frozen=True)
class Machine:
    """Directories, device and execution settings of this machine."""

    device: torch.device
    results_dir: Path
    cache_dir: Path
    data_dir: Path
    checkpoint_seconds: float
    progress: str
    group: ProcessGroup = field(default_factory=_alone)  # the processes that torchrun started
    workers: int = 0  # threads that decode images
    memory_gb: float | None = None  # GiB for graphs; None = found (runner/engine/memory.py)
    save_predictions: bool = False  # whether runs keep their predictions on the test images
    profile: Profile | None = None  # where the time goes; None = not measured

    @property
    def machine(self) -> Machine:
        """Itself, as of a `Place`."""
        return self


@dataclass(frozen=True)
class Place:
    """The machine of an environment, prepared where something is to be computed on it.

    Raises:
        ConfigError: on construction, as `prepare`.
    """

    env: Environment

    def __post_init__(self) -> None:
        check_environment(self.env)

    @property
    def results_dir(self) -> Path:
        """The directory of records."""
        return self.env.results_dir

    @property
    def cache_dir(self) -> Path:
        """The directory of the cache."""
        return self.env.cache_dir

    @property
    def save_predictions(self) -> bool:
        """Whether runs keep their predictions on the test images."""
        return self.env.save_predictions

    @cached_property
    def machine(self) -> Machine:
        """The machine; this imports torch."""
        return prepare(self.env)


def check_environment(env: Environment) -> None:
    """Refuse what `prepare` refuses.

    Raises:
        ConfigError: an invalid value, a missing CUDA device, or a directory that cannot be written.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # before torch looks for GPUs
    if problems := [*_invalid(env), *_unwritable_folders(env)]:
        raise ConfigError(*problems)


def prepare(env: Environment, trains: bool = False) -> Machine:
    """The requested machine. Sets torch's number of threads and numerics of CUDA.

    A process that trains keeps the memory that a step frees, for the next step. cuDNN is
    deterministic, and TF32, with its ten bits, is off. GPUs have nvidia-smi's numbers.

    Args:
        trains: whether this process trains; it then joins the processes that torchrun started.

    Raises:
        ConfigError: as `check_environment`, or a directory that the processes do not share.
    """
    check_environment(env)
    import torch

    from runner.engine.distributed import ProcessGroup, join
    from runner.engine.profile import Profile
    from runner.engine.shared_folders import check_shared

    _set_numerics()
    if env.threads is not None:
        torch.set_num_threads(env.threads)
    if trains:
        keep_freed_memory()
    group = join(chosen(env.device)) if trains else ProcessGroup(device=chosen(env.device))
    check_shared(group, {"env.results_dir": env.results_dir, "env.cache_dir": env.cache_dir})
    return Machine(
        device=group.device,
        results_dir=env.results_dir,
        cache_dir=env.cache_dir,
        data_dir=env.data_dir,
        checkpoint_seconds=env.checkpoint_seconds,
        progress=env.progress if group.first else "none",
        group=group,
        workers=decoding_threads(env.threads) if env.workers is None else env.workers,
        memory_gb=env.memory_gb,
        save_predictions=env.save_predictions,
        profile=Profile(group) if env.profile else None,
    )


def _set_numerics() -> None:
    import torch

    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def decoding_threads(threads: int | None) -> int:
    """The default of env.workers: as many as the process computes with, at most 16.

    torchrun lets each process compute with one thread unless it is told otherwise; such a process
    decodes with its share of the machine's cores.

    Args:
        threads: env.threads.
    """
    here = processes_here()
    if threads is None and here > 1:
        threads = max(1, cores() // here)
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    return min(MOST_WORKERS, threads)


def _invalid(env: Environment) -> Iterator[str]:
    """A message for each invalid value, and for a device that cannot be used."""
    if message := refused(env.device):
        yield message
    if env.progress not in MODES:
        yield one_of("env.progress", env.progress, MODES)
    most = max(256, 4 * (os.cpu_count() or 1))
    if env.threads is not None and not 1 <= env.threads <= most:
        yield f"env.threads={env.threads} must be 1 to {most}, or null for torch's choice"
    if not 0 <= env.checkpoint_seconds < math.inf:
        seconds = f"env.checkpoint_seconds={env.checkpoint_seconds:g}"
        yield f"{seconds} must be 0 (after every step) or more, in seconds"
    if env.memory_gb is not None and not 0 < env.memory_gb < math.inf:
        yield (
            f"env.memory_gb={env.memory_gb:g} must be positive: GiB that the graphs of derivatives"
            " may take, or null for half of the free memory"
        )
    if env.workers is not None and not 0 <= env.workers <= most:
        yield (
            f"env.workers={env.workers} must be 0 (the thread that trains decodes images) to"
            f" {most}, or null for as many as env.threads"
        )


def _unwritable_folders(env: Environment) -> Iterator[str]:
    for key, folder in (("results_dir", env.results_dir), ("cache_dir", env.cache_dir)):
        if message := _unwritable(f"env.{key}", folder):
            yield message


def check_precision(precision: str, device: torch.device) -> None:
    """Reject bf16 on a device without bf16 instructions.

    Raises:
        ConfigError: the message names the alternative.
    """
    if precision != "bf16":
        return
    import torch

    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else cpu_has_bf16(_cpu_flags())
    )
    if not native:
        raise ConfigError(
            f"train.precision=bf16: this {device.type} has no bf16 instructions (emulation is"
            " slower than fp32); use train.precision=fp32"
        )


def cpu_has_bf16(flags: set[str]) -> bool:
    """Whether a CPU with these feature flags (Linux' names) computes in bf16.

    Instruction sets: AVX-512, AMX, or Arm's BF16 extension.
    """
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"})


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        # macOS on Apple silicon has no such file.
        return {"bf16"} if platform.machine() == "arm64" else set()
    return {
        word
        for line in info.read_text().splitlines()
        if line.lower().startswith(("flags", "features"))
        for word in line.split(":", 1)[1].split()
    }


def _unwritable(key: str, path: Path) -> str | None:
    """Why nothing can be written under `path`, or None.

    Tested by writing a file, because root can write where the mode bits forbid it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return (
            f"{key}={path} cannot be written: {error.strerror}; choose another directory with"
            f" {key}=DIR"
        )
    return None
