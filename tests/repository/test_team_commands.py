"""The commands of docs/teams.md run, at a small scale: two processes, a perceptron, digits."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, environment, last_of_each

from runner.engine.profile import PHASES

PAGE = (ROOT / "docs" / "teams.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
# What one machine without cards has instead; two nodes are tested in tests/engine/test_nodes.py,
# and Slurm by `make slurm-test`.
SMALLER = {
    "--nproc-per-node": "2",
    "--nnodes": "1",
    "--rdzv-endpoint": "localhost:0",
    "hydra.launcher.gpus_per_job": None,
    "hydra.launcher.sizes": None,
}
KEPT = ("method", "density", "train.scale", "env.profile")


def small(words: list[str]) -> list[str]:
    """The options of torchrun or of the sweep, with small values."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key in SMALLER and SMALLER[key] is not None:
            found.append(f"{key}={SMALLER[key]}")
        elif key not in SMALLER and (key.startswith(("--", "hydra")) or key in KEPT):
            found.append(f"{key}={value}" if value else key)
    return found


def run(folder: Path, line: list[str]) -> str:
    own = [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]
    done = subprocess.run(
        [sys.executable, *line, *own],
        cwd=folder,
        env={**environment(), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in folder.glob("results/runs/*/result.json")]


def test_the_page_has_commands_of_each_kind() -> None:
    starts = {" ".join(line.split()[:2]) for line in COMMANDS}
    assert {"python run.py", "make plan"} <= starts
    assert sum(line.startswith("torchrun ") for line in COMMANDS) == 3 and len(COMMANDS) == 8


@pytest.mark.slow
@pytest.mark.parametrize("line", [each for each in COMMANDS if each.startswith("torchrun ")])
def test_a_run_of_several_processes(line: str, tmp_path: Path) -> None:
    _, *words = shlex.split(line)
    cut = words.index("run.py")
    options, overrides = small(words[:cut]), small(words[cut + 1 :])
    script = ["-m", "torch.distributed.run", *options, str(ROOT / "run.py")]
    quick = ["method.spectrum.steps=4"] if "method=imc" in overrides else []
    output = run(tmp_path, [*script, *last_of_each(*SMALL, *overrides, *quick)])
    (record,) = records(tmp_path)
    origin = record["provenance"]
    assert isinstance(origin, dict) and origin["processes"] == 2
    assert ("profile: reading " in output) == ("env.profile=true" in line)
    assert tuple(origin.get("profile", PHASES)) == PHASES


@pytest.mark.slow
@pytest.mark.parametrize("line", [each for each in COMMANDS if "hydra/launcher=gpu_queue" in each])
def test_a_sweep_of_teams(line: str, tmp_path: Path) -> None:
    words = small(shlex.split(line)[2:])
    size = "sizes.mlp" if "sizes" in line else "slots_per_job"
    queue = ["hydra.launcher.slots=2", f"hydra.launcher.{size}=2"]
    chosen = last_of_each(*SMALL, *words, "method=snip", "density=0.5", *queue)
    run(tmp_path, [str(ROOT / "run.py"), "-m", *chosen])
    (record,) = records(tmp_path)
    origin = record["provenance"]
    assert isinstance(origin, dict) and origin["processes"] == 2
