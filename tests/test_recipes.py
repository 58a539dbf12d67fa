"""CONTRIBUTING.md's recipes work as printed: what they name is written into a copy of the repository, and nothing else is needed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, environment

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
CODE = ("conf", "hydra_plugins", "models", "pruners", "runner", "run.py")
OWN = ["env.results_dir=results", "env.cache_dir=cache"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code in a folder of its own."""
    for name in CODE:
        how = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        how(ROOT / name, tmp_path / name)
    return tmp_path


def recipe(title: str) -> dict[str, str]:
    """Path -> text of the files that the section of that title prints."""
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return dict(re.findall(r"`([\w/.]+)`:\n\n```(?:python|yaml)\n(.*?)```", section, re.DOTALL))


def follow(title: str, copy: Path) -> None:
    """Write the files of a recipe; what is printed for a file that is there already goes to its end."""
    for path, text in recipe(title).items():
        before = (copy / path).read_text() + "\n\n" if (copy / path).exists() else ""
        (copy / path).write_text(before + text)


def changed_files(copy: Path) -> set[str]:
    """Files of the copy that the repository does not have, or has otherwise."""
    files = (path for name in CODE for path in ((copy / name).rglob("*") if (copy / name).is_dir() else [copy / name]) if path.is_file())
    names = (path.relative_to(copy) for path in files if path.suffix != ".pyc")
    return {str(name) for name in names if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != (copy / name).read_bytes()}


def run(copy: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`python run.py WORDS` in the copy, with its own modules."""
    env = {**environment(), "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "run.py", *words, *SMALL, *OWN], cwd=copy, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_learning_rate_schedule_is_a_class_and_a_file(copy: Path) -> None:
    follow("A new learning-rate schedule", copy)
    assert changed_files(copy) == {"runner/spec/lr_schedule.py", "conf/lr_schedule/linear.yaml"}
    for name in ("linear", "constant"):
        run(copy, "method=dense", f"train.lr_schedule={name}")
    configs = {name: path for path in copy.glob("results/runs/*/config.yaml") for name in ("linear", "constant") if f"lr_schedule: {name}" in path.read_text()}
    linear, constant = (json.loads((configs[name].parent / "result.json").read_text()) for name in ("linear", "constant"))
    assert linear["run_id"] != constant["run_id"] and linear["test_loss"] != constant["test_loss"]  # the rate fell
    rates = "from runner.spec.lr_schedule import Linear; print([Linear(0.5)(0.8, step, 4) for step in range(4)])"
    done = subprocess.run([sys.executable, "-c", rates], cwd=copy, capture_output=True, text=True, env={**environment(), "PYTHONPATH": str(copy)})
    assert [round(rate, 9) for rate in json.loads(done.stdout)] == [0.8, 0.7, 0.6, 0.5]  # 0.8 (1 - t / 8)


def test_a_launcher_is_a_module_and_a_file(copy: Path) -> None:
    follow("A new launcher", copy)
    assert changed_files(copy) == {"runner/launch/serial.py", "conf/hydra/launcher/serial.yaml"}
    sweep = ["-m", "method=random", "density=0.5", "seed=0,1", "hydra/launcher=serial"]
    done = run(copy, *sweep)
    names = sorted(path.parent.name for path in copy.glob("results/runs/*/result.json"))
    assert [name.rpartition("-")[0][-2:] for name in names] == ["s0", "s1"]
    assert "2 runs, 0 done, 2 to do" in done.stdout and re.findall(r"^ended: (.*)$", done.stdout, re.MULTILINE) == names
    again = run(copy, *sweep, "hydra.launcher.stop_on_error=true")
    assert "2 runs, 2 done, 0 to do" in again.stdout and "ended" not in again.stdout
