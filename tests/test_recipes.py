"""The recipes of CONTRIBUTING.md: what they add works from the files that they name, and from these alone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ROOT, environment

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PARTS = ("conf", "models", "pruners", "runner", "run.py", "scripts")
QUICK = ["train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none"]


def follow(heading: str, copy: Path) -> set[str]:
    """Copy the code to an empty folder and add the files of the section `heading`; their paths."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    before = files(copy)
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    for path, code in re.findall(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", section, re.DOTALL):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(code)
    return files(copy) - before


def files(folder: Path) -> set[str]:
    """Paths of all files inside a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def python(copy: Path, *words: str) -> str:
    """What `python <words>` prints in the copy, where it has to succeed."""
    done = subprocess.run([sys.executable, *words], cwd=copy, capture_output=True, text=True, timeout=300, env={**environment(), "PYTHONPATH": str(copy)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(copy: Path, prefix: str) -> dict[str, Any]:
    """The one record whose run id begins so."""
    (path,) = (copy / "results" / "runs").glob(f"{prefix}-*/result.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_new_score_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert follow("A new method in five minutes", tmp_path) == {"pruners/scores/gradient.py", "conf/method/gradient.yaml"}
    python(tmp_path, "run.py", "method=gradient", "density=0.1", "dataset=digits", "model=mlp", *QUICK)
    found = record(tmp_path, "gradient-mlp-digits")
    assert found["kept"] == round(0.1 * found["prunable"])


def test_a_new_sparse_training_method_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert follow("A new sparse-training method", tmp_path) == {"pruners/dynamic/jitter.py", "conf/method/jitter.yaml"}
    python(tmp_path, "run.py", "method=jitter", "density=0.1", "dataset=digits", "model=mlp", *QUICK, "train.scale=0.025")  # four epochs
    found = record(tmp_path, "jitter-mlp-digits")
    assert found["kept"] == round(0.1 * found["prunable"])
    assert found["report"]["updates"] == 3 and found["report"]["rewired"] > 0  # none after the last epoch


def test_a_new_model_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert follow("A new model", tmp_path) == {"models/linear.py", "conf/model/linear.yaml"}
    python(tmp_path, "run.py", "method=magnitude", "density=0.5", "dataset=digits", "model=linear", *QUICK)
    assert record(tmp_path, "magnitude-linear-digits")["prunable"] == 640  # 64 pixels x 10 classes


def test_a_new_table_is_one_yaml(tmp_path: Path) -> None:
    assert follow("A new table", tmp_path) == {"conf/table/imc_small.yaml"}
    printed = python(tmp_path, "scripts/reproduce.py", "imc_small", "env.device=cpu")
    assert "SNIP against random masks" in printed and re.search(r"^SNIP +0\.90 \[–\] +\d+\.\d\d ± \d", printed, re.MULTILINE)
    assert re.search(r"^scores help: SNIP - Random +[+-]\d+\.\d\d points, 2 pairs", printed, re.MULTILINE)


def test_a_new_figure_is_one_yaml(tmp_path: Path) -> None:
    assert follow("A new figure", tmp_path) == {"conf/figure/imc_small_curve.yaml"}
    printed = python(tmp_path, "scripts/reproduce.py", "imc_small_curve", "env.device=cpu")
    assert "SNIP: 2 points" in printed and "random masks lose" in printed
    assert (tmp_path / "results" / "figures" / "imc_small_curve.svg").is_file()


def test_a_new_data_set_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert follow("A new data set", tmp_path) == {"runner/data/stripes.py", "conf/dataset/stripes.yaml"}
    assert python(tmp_path, "scripts/fetch_data.py", "stripes") == "stripes is ready; use it with dataset=stripes\n"
    python(tmp_path, "run.py", "method=dense", "dataset=stripes", "model=mlp", *QUICK)
    (path,) = (tmp_path / "results" / "runs").glob("dense-mlp-stripes-*/result.json")
    record = json.loads(path.read_text())
    checksum = re.search(r'CHECKSUM = "(\w+)"', (tmp_path / "runner/data/stripes.py").read_text())
    assert checksum and record["provenance"]["dataset_checksum"] == checksum[1]
    assert record["dataset"] == "stripes" and record["accuracy"] > 80  # of two classes that a linear map tells apart
