"""Seconds that commands take which have nothing to compute, beside the import of torch.

All commands are separate processes, in alternation with `import torch` in another one. The smallest
of several times counts: whatever else runs on the machine only adds time.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from runner.bench.figures import Figure
from runner.config.build import build_run
from runner.config.compose import compose_config, method_names
from runner.errors import ConfigError
from runner.paths import ROOT

TORCH = ("-c", "import torch")
RIVAL = "python -c 'import torch'"
# 1,184 weights, two epochs
TINY = (
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.0125",
    "train.lr=0.05",
    "env.threads=1",
    "env.progress=none",
)


def smallest(root: str) -> list[str]:
    """Return the overrides of a small run of the method that only trains, in folders of its own."""
    return [f"method={next(filter(only_trains, method_names()))}", *TINY, *folders(root)]


def only_trains(method: str) -> bool:
    """Whether the method is one training."""
    try:
        stages = build_run(compose_config([f"method={method}"])).stages
    except ConfigError:  # it takes a density
        return False
    return [stage.kind for stage in stages] == ["train"]


def folders(root: str) -> list[str]:
    """Return the overrides that keep results and cache below `root`."""
    return [f"env.results_dir={root}/results", f"env.cache_dir={root}/cache"]


def help_vs_torch(name: str, rounds: int) -> Figure:
    """Measure `python run.py --help`; ratio = its seconds / those of `import torch`."""
    return _beside_torch(name, ["run.py", "--help"], rounds)


def done_vs_torch(name: str, rounds: int) -> Figure:
    """Measure the command of a finished run; ratio = its seconds / those of `import torch`."""
    with tempfile.TemporaryDirectory() as root:
        command = ["run.py", *smallest(root)]
        took(command)
        return _beside_torch(name, command, rounds)


def _beside_torch(name: str, command: Sequence[str], rounds: int) -> Figure:
    pairs = [(took(command), took(TORCH)) for _ in range(rounds + 1)]
    ours, torch = (min(each) for each in zip(*pairs, strict=True))
    return Figure(name, ours, "s", RIVAL, torch, ours / torch)


def took(words: Sequence[str]) -> float:
    """Return the seconds of `python WORDS` in the repository.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - start
