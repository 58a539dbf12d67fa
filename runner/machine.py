"""The machine a run uses, and what it can and cannot do. Nothing here is part of a run's identity; all of it is recorded."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from runner.errors import ConfigError, one_of
from runner.parallel import ALONE, Team, join
from runner.progress import MODES

DEVICES = ("auto", "cpu", "cuda")
MOST_WORKERS = 16  # unless env.workers asks for more
PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scikit-learn", "pyhessian")


@dataclass(frozen=True)
class Machine:
    """Directories, device and habits of this machine."""

    device: torch.device
    results_dir: Path
    cache_dir: Path
    data_dir: Path
    checkpoint_seconds: float
    progress: str
    team: Team = ALONE  # the processes that torchrun started
    workers: int = 0  # processes that decode images


CODE = ("run.py", "runner", "models", "pruners", "conf")  # what a number can depend on


def prepare(env: dict[str, Any]) -> Machine:
    """The machine that `env` asks for; sets torch's threads and deterministic algorithms.

    Raises:
        ConfigError: a device, thread count or directory that cannot be had.
    """
    problems = [one_of(f"env.{key}", env[key], choices) for key, choices in (("device", DEVICES), ("progress", MODES)) if env[key] not in choices]
    if env["device"] == "cuda" and not torch.cuda.is_available():
        problems.append("env.device=cuda: torch sees no CUDA device here; take env.device=cpu, or auto, which uses what there is")
    if env["threads"] is not None and env["threads"] < 1:
        problems.append(f"env.threads={env['threads']} must be at least 1, or null for torch's choice")
    if env["checkpoint_seconds"] < 0:
        problems.append(f"env.checkpoint_seconds={env['checkpoint_seconds']:g} must be 0 (after every step) or more")
    if env["workers"] is not None and env["workers"] < 0:
        problems.append(f"env.workers={env['workers']} must be 0 (the run's own process decodes images) or more, or null for one a thread")
    problems += [message for key in ("results_dir", "cache_dir") if (message := _unwritable(f"env.{key}", Path(env[key])))]
    if problems:
        raise ConfigError(*problems)
    if env["threads"] is not None:
        torch.set_num_threads(env["threads"])
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    cuda = env["device"] == "cuda" or (env["device"] == "auto" and torch.cuda.is_available())
    team = join(torch.device("cuda" if cuda else "cpu"))
    return Machine(
        device=team.device,
        results_dir=Path(env["results_dir"]),
        cache_dir=Path(env["cache_dir"]),
        data_dir=Path(env["data_dir"]),
        checkpoint_seconds=env["checkpoint_seconds"],
        progress=env["progress"] if team.first else "none",
        team=team,
        workers=min(MOST_WORKERS, torch.get_num_threads()) if env["workers"] is None else env["workers"],
    )


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse bf16 where the device has no instructions for it.

    Raises:
        ConfigError: with the way out.
    """
    if precision != "bf16":
        return
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16(_cpu_flags())
    if not native:
        raise ConfigError(f"train.precision=bf16: this {device.type} has no bf16 instructions (emulation is slower than fp32); take train.precision=fp32")


def cpu_has_bf16(flags: set[str]) -> bool:
    """Whether a CPU with these feature flags (Linux' names) computes in bf16: AVX-512, AMX, or Arm's BF16 extension."""
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"})


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return {"bf16"} if platform.machine() == "arm64" else set()  # macOS on Apple silicon has no such file
    return {word for line in info.read_text().splitlines() if line.lower().startswith(("flags", "features")) for word in line.split(":", 1)[1].split()}


def _unwritable(key: str, path: Path) -> str | None:
    """Why nothing can be written under `path`, or None. Root may write where the mode bits forbid it, so this tries."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return f"{key}={path} cannot be written: {error.strerror}; name another directory with {key}=DIR"
    return None


def device_name(device: torch.device) -> str:
    """The processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def provenance(machine: Machine) -> dict[str, Any]:
    """What a number's origin is: code, versions, device, determinism. Collected anew by every run."""
    return {
        **git_state(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "device": machine.device.type,
        "device_name": device_name(machine.device),
        "cuda": torch.version.cuda if machine.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "processes": machine.team.size,
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "determinism": {
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        },
    }


def git_state() -> dict[str, Any]:
    """`git_sha` and `git_dirty` of the code that runs, a new method's untracked files included; null outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    inside = git("rev-parse", "--show-toplevel") == str(root)  # an installed wheel may lie inside somebody else's checkout
    status = git("status", "--porcelain", "--", *CODE) if inside else None
    return {"git_sha": git("rev-parse", "HEAD") if inside else None, "git_dirty": None if status is None else bool(status)}
