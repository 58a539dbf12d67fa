"""The source distribution is the checkout; the wheel made from it works in an empty folder.

The folder has sub-folders with the names of Winnow's packages, as a user's can.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, copy_code, environment
from recipes import own_files

from runner.code import VERSION, code_digest
from runner.records.provenance import provenance

SMALL = ["train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none"]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy of the tracked files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    finish([sys.executable, "-c", code, str(out)], source)
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def site(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed that pip builds from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    finish([*pip, "wheel", *offline, "--no-build-isolation", str(sdist)], folder)
    (wheel,) = folder.glob("*.whl")
    finish([*pip, "install", *offline, "--target", "site", str(wheel)], folder)
    return folder / "site"


def tracked() -> set[str]:
    """The files of the checkout."""
    words = ["git", "ls-files", "-z"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.split("\0")))


def finish(words: list[str], folder: Path) -> None:
    """Run a command, which has to succeed."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def winnow(site: Path, folder: Path, *words: str, path: str = "") -> str:
    """Output of the installed command, which has to succeed."""
    done = subprocess.run(
        [sys.executable, str(site / "bin" / "winnow"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment(), "PYTHONPATH": str(site), "WINNOW_PATH": path},
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
    assert origin["installed"] == {"version": VERSION, "sha256": code_digest(site)}
    assert "random" in winnow(site, tmp_path, "table")
    assert "runs" in winnow(site, tmp_path, "plan", "imc_table01", "models=resnet20", "seeds=0")
    printed = winnow(site, tmp_path, "tables", "imc_table14@digits")
    assert "[" in printed and list((tmp_path / "results" / "tables").glob("imc_table14*"))
    assert "imc_table01" in winnow(site, tmp_path, "run", "--choices")
    assert "digits is ready" in winnow(site, tmp_path, "data", "digits")
    assert winnow(site, tmp_path, "--version").startswith(f"winnow {VERSION}, Python 3.")


@pytest.mark.slow
def test_the_wheel_runs_a_method_of_the_users_own(site: Path, tmp_path: Path) -> None:
    for path, code in own_files("A new method in five minutes").items():
        (tmp_path / "my" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / path).write_text(code)
    winnow(site, tmp_path, "run", "method=gradient", "density=0.25", "model=mlp", *SMALL, path="my")
    (record,) = (json.loads(p.read_text()) for p in tmp_path.glob("results/runs/*/result.json"))
    assert record["kept"] == round(0.25 * record["prunable"])
    assert record["provenance"]["own"]["gradient"]["from"] == str(tmp_path / "my" / "gradient.py")


@pytest.mark.slow
def test_the_source_distribution_is_the_checkout(sdist: Path) -> None:
    made = {"PKG-INFO", "setup.cfg"}  # by setuptools
    with tarfile.open(sdist) as file:
        names = {each.name.partition("/")[2] for each in file if each.isfile()}
    assert sdist.name == f"winnow_pruning-{VERSION}.tar.gz"
    assert {name for name in names if ".egg-info/" not in name} == tracked() | made


def test_the_version_is_that_of_the_citation_and_of_the_changelog() -> None:
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    (date,) = re.findall(
        r"^date-released: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"{VERSION} - {date}" in heads


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


def test_one_range_of_python_versions_is_stated_and_checked() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (least, end) = re.findall(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', project, re.MULTILINE)[
        0
    ]
    assert f'target-version = "py3{least}"' in project  # of ruff: no newer syntax
    assert f'\npython_version = "3.{least}"' in project  # of mypy: no newer names of the library
    versions = [f'"3.{minor}"' for minor in range(int(least), int(end))]
    assert f"python: [{', '.join(versions)}]" in (ROOT / ".github/workflows/ci.yml").read_text()
    assert f"--python-version 3.{least} " in (ROOT / "Makefile").read_text()  # of make lock
    assert f"Python 3.{least} to 3.{int(end) - 1}" in (ROOT / "README.md").read_text()
