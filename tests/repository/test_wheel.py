"""The wheel works in an empty folder, beside folders with the names of Winnow's packages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, copy_code, environment

from runner.code import code_digest
from runner.records.provenance import provenance

SMALL = ["train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the built wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "site"
    source.mkdir()
    copy_code(source)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("paper", "published"):
        shutil.copytree(ROOT / "results" / name, source / "results" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    for words in (
        ["wheel", *offline, "-w", str(folder), str(source)],
        ["install", *offline[:2], "--target", str(target)],
    ):
        wheels = list(map(str, folder.glob("*.whl")))
        done = subprocess.run([*pip, *words, *wheels], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return target


def winnow(site: Path, folder: Path, *words: str) -> str:
    """Output of the installed command, which has to succeed."""
    done = subprocess.run(
        [sys.executable, str(site / "bin" / "winnow"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment(), "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_runs_plans_and_prints_tables_in_an_empty_folder(
    site: Path, tmp_path: Path
) -> None:
    for name in ("runner", "models", "pruners", "conf", "run", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('of the user')\n")
    sweep = ["run", "-m", "method=random", "density=0.5", "seed=0,1", "model=mlp", *SMALL]
    assert "(2)" in winnow(site, tmp_path, *sweep, "hydra/launcher=gpu_queue")
    paths = list(tmp_path.glob("results/runs/*/result.json"))
    assert len(paths) == 2
    origin = json.loads(paths[0].read_text())["provenance"]
    assert origin["git_sha"] is None and origin["git_dirty"] is None
    assert origin["installed"] == {"version": "0.1.0", "sha256": code_digest(site)}
    assert "random" in winnow(site, tmp_path, "table")
    assert "runs" in winnow(site, tmp_path, "plan", "imc_table01", "models=resnet20", "seeds=0")
    printed = winnow(site, tmp_path, "tables", "imc_table14@digits")
    assert "[" in printed and list((tmp_path / "results" / "tables").glob("imc_table14*"))
    assert "imc_table01" in winnow(site, tmp_path, "run", "--choices")
    assert "digits is ready" in winnow(site, tmp_path, "data", "digits")


@pytest.mark.slow
def test_the_wheel_has_the_papers_numbers_and_the_configuration(site: Path) -> None:
    for folder, pattern in (("conf", "*.yaml"), ("results/paper", "*.csv")):
        names = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(pattern)}
        found = {path.relative_to(site / folder) for path in (site / folder).rglob(pattern)}
        assert names and found == names
    assert len(list((site / "results/published/records").glob("*.jsonl"))) > 20
    assert not (site / "tests").exists()


def test_code_in_a_checkout_has_its_commit_and_any_other_its_hash(tmp_path: Path) -> None:
    origin = provenance(torch.device("cpu"), 1).as_json()
    assert len(origin["git_sha"]) == 40 and "installed" not in origin
    copy_code(tmp_path)
    assert code_digest(tmp_path) == code_digest(ROOT)
    (tmp_path / "conf" / "mine.yaml").write_text("a: 1\n")
    code = (
        "import sys; sys.path[0] = sys.argv[1]\n"
        "from runner.records.provenance import provenance\n"
        "import json, torch\n"
        "print(json.dumps(provenance(torch.device('cpu'), 1).as_json()))"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    copied = json.loads(done.stdout)
    code_digest.cache_clear()
    # the distribution of this environment is not the copy
    assert copied["installed"] == {"version": None, "sha256": code_digest(tmp_path)}
    assert copied["git_sha"] is None and code_digest(tmp_path) != code_digest(ROOT)
