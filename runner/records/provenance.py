"""Provenance of a number: code, package versions, device and determinism settings."""

import platform
import shlex
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from runner.paths import CODE, ROOT

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scikit-learn", "pyhessian")


def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def provenance(
    device: torch.device, processes: int, memory_gb: float | None = None
) -> dict[str, Any]:
    """The provenance of a run's numbers: code, versions, device and determinism settings.

    Args:
        processes: number of processes that train together.
        memory_gb: the bound on the memory of derivatives; None = not bounded.
    """
    return {
        **git_state(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "device": device.type,
        "device_name": device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "memory_gb": memory_gb,
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
    """`git_sha` and `git_dirty` of the running code; None outside a checkout.

    Untracked files, such as those of a new method, make the code dirty.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # an installed wheel can be inside another project's checkout
    inside = git("rev-parse", "--show-toplevel") == str(ROOT)
    status = git("status", "--porcelain", "--", *CODE) if inside else None
    return {
        "git_sha": git("rev-parse", "HEAD") if inside else None,
        "git_dirty": None if status is None else bool(status),
    }
