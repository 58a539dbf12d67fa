"""Provenance of a number: code, package versions, device, processor and determinism settings."""

import platform
import re
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import torch

from runner.code import git_state, installed
from runner.spec.record import RecordedCpu, RecordedOrigin

PACKAGES = ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scikit-learn", "pyhessian")


OWN: Final = "own"  # key in a record's provenance: the run's parts that are the user's own
# What libraries choose their kernels by. Two processors of one name can differ in it.
X86 = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")
INSTRUCTION_SETS = (*X86, "asimd", "sve", "bf16")
LIBRARIES = {
    "oneMKL": r"Math Kernel Library Version (\S+?)-",
    "oneDNN": r"MKL-DNN v(\S+)",
    "BLAS": r"BLAS_INFO=(\w+)",
}


@dataclass(frozen=True)
class Cpu:
    """A kind of processor. Equal kinds compute equal bits with equal packages and threads.

    Args:
        name: the brand as the system states it.
        capability: the kernels that PyTorch takes, e.g. AVX512; it can be less than the processor
            has (ATEN_CPU_CAPABILITY).
        instruction_sets: those of `INSTRUCTION_SETS` that the system lists, sorted.
        libraries: name -> version of the libraries for matrix products and convolutions.
    """

    name: str
    capability: str
    instruction_sets: tuple[str, ...]
    libraries: dict[str, str]


@dataclass(frozen=True)
class Origin:
    """By which code and on which machine a stage was computed: docs/records.md.

    Args:
        git_sha, git_dirty: see `git_state`.
        versions: versions of Python and of `PACKAGES`.
        device, device_name, cuda: kind and name of the device, CUDA's version or None.
        cpu: the processor, also where a GPU computes.
        threads, processes: threads of PyTorch in a process, processes that train together.
        host: name of the machine.
        determinism: settings of cuDNN, deterministic algorithms and TF32.
        installed: the version and the hash of code that is in no checkout; None in a checkout.
    """

    git_sha: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    device: str
    device_name: str
    cuda: str | None
    cpu: Cpu
    threads: int
    processes: int
    host: str
    determinism: dict[str, bool]
    installed: dict[str, str | None] | None = None

    def as_json(self) -> RecordedOrigin:
        """The fields as plain JSON."""
        cpu: RecordedCpu = {
            "name": self.cpu.name,
            "capability": self.cpu.capability,
            "instruction_sets": list(self.cpu.instruction_sets),
            "libraries": self.cpu.libraries,
        }
        made: RecordedOrigin = {
            "git_sha": self.git_sha,
            "git_dirty": self.git_dirty,
            "versions": self.versions,
            "device": self.device,
            "device_name": self.device_name,
            "cuda": self.cuda,
            "cpu": cpu,
            "threads": self.threads,
            "processes": self.processes,
            "host": self.host,
            "determinism": self.determinism,
        }
        return made if self.installed is None else {**made, "installed": self.installed}


def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu().name


def cpu() -> Cpu:
    """The processor of this machine."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    listed = set(flags[1].split()) if flags else set()
    build = torch.__config__.show()
    found = {library: re.search(pattern, build) for library, pattern in LIBRARIES.items()}
    return Cpu(
        name=name[1].strip() if name else platform.processor() or platform.machine(),
        capability=torch.backends.cpu.get_cpu_capability(),
        instruction_sets=tuple(sorted(listed.intersection(INSTRUCTION_SETS))),
        libraries={library: match[1] for library, match in found.items() if match},
    )


def provenance(device: torch.device, processes: int) -> Origin:
    """The provenance of numbers that this process computes.

    Args:
        processes: number of processes that train together.
    """
    state = git_state()
    return Origin(
        **state,
        installed=installed() if state["git_sha"] is None else None,
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        device=device.type,
        device_name=device_name(device),
        cuda=torch.version.cuda if device.type == "cuda" else None,
        cpu=cpu(),
        threads=torch.get_num_threads(),
        processes=processes,
        host=socket.gethostname(),
        determinism={
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        },
    )
