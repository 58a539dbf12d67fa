"""Shared fixtures. Each test writes to its own temporary directory; no code of ours is mocked."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_forked

from runner import own

ROOT = Path(__file__).resolve().parent.parent
# two epochs on a fully connected net
SMALL = [
    "dataset=digits",
    "model=mlp",
    "train.scale=0.0125",
    "env.device=cpu",
    "env.threads=1",
    "env.progress=none",
]

# what runs of a checkout
PARTS = ("conf", "hydra_plugins", "models", "pruners", "runner", "run.py", "scripts")

# pytest runs one worker per core, and the last bits depend on the number of threads
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_parts_of_one_test() -> Iterator[None]:
    """The folders that a test names by `--config-dir` end with it; they belong to the process."""
    before = list(own._named)
    yield
    own._named[:] = before


@pytest.fixture
def dirs(tmp_path: Path) -> list[str]:
    """Overrides that keep a run inside the test's directory."""
    return [
        f"env.results_dir={tmp_path / 'results'}",
        f"env.cache_dir={tmp_path / 'cache'}",
        f"env.data_dir={tmp_path / 'data'}",
    ]


@pytest.fixture
def command(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, dirs: list[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python run.py <overrides>` in the test's directory, as a user would."""

    def run(*overrides: str, own_dirs: bool = True) -> subprocess.CompletedProcess[str]:
        return run_forked(
            last_of_each(*overrides, *(dirs if own_dirs else [])),
            tmp_path,
            environment(),
            tmp_path_factory.mktemp("output"),
            timeout=300,
        )

    return run


def copy_code(copy: Path) -> None:
    """Copy the code to an empty folder."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)


def last_of_each(*overrides: str) -> list[str]:
    """The overrides, without those whose key a later one sets again; a command refuses these."""
    last = {word.partition("=")[0]: word for word in overrides}
    return [word for word in overrides if word is last[word.partition("=")[0]]]


def environment() -> dict[str, str]:
    """The environment of a command under test: a wide terminal without colours."""
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def records(tmp_path: Path) -> list[dict[str, Any]]:
    """All records that the runs of a test have written."""
    return [
        json.loads(path.read_text())
        for path in sorted((tmp_path / "results" / "runs").glob("*/result.json"))
    ]
