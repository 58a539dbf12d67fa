"""Each recipe of CONTRIBUTING.md works with exactly the files that it prints."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, copy_code, environment, last_of_each

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
QUICK = ["train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none"]


def apply_section(heading: str, copy: Path) -> set[str]:
    """Copy the code to an empty folder, add the files of a section, and return their paths.

    Code that the section prints for an existing file is appended to it.
    """
    copy_code(copy)
    return add_section(heading, copy)


def add_section(heading: str, copy: Path) -> set[str]:
    """As `apply_section`, to a folder with the code."""
    before = files(copy)
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    for path, code in re.findall(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", section, re.DOTALL):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        existing = f"{before[path].decode()}\n\n" if path in before else ""
        (copy / path).write_text(existing + code)
    return {path for path, content in files(copy).items() if before.get(path) != content}


def files(folder: Path) -> dict[str, bytes]:
    """Contents of all files in a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def python(copy: Path, *arguments: str) -> str:
    """Output of `python <arguments>` in the copy, which has to succeed."""
    done = subprocess.run(
        [sys.executable, *last_of_each(*arguments)],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment(), "PYTHONPATH": str(copy)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(copy: Path, prefix: str) -> dict[str, Any]:
    """The only record whose run id has the prefix."""
    (path,) = (copy / "results" / "runs").glob(f"{prefix}-*/result.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


IMPORTS = """from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from pruners.scores.gradients import mean_gradients


"""


def test_the_method_of_the_readme_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    copy_code(tmp_path)
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"`pruners/scores/mine.py`:\n\n```python\n(.*?)```", readme, re.DOTALL)
    (text,) = re.findall(r"^```yaml\n(.*?)```", readme, re.DOTALL | re.MULTILINE)
    docstring = '"""A score."""\n\n'
    (tmp_path / "pruners/scores/mine.py").write_text(f"{docstring}{IMPORTS}{code}")
    (tmp_path / "conf/method/mine.yaml").write_text(text)
    words = ["method=mine", "density=0.1", "dataset=digits", "model=mlp", *QUICK]
    python(tmp_path, "run.py", *words)
    found = record(tmp_path, "mine-mlp-digits")
    assert found["kept"] == round(0.1 * found["prunable"])


def test_a_new_score_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert apply_section("A new method in five minutes", tmp_path) == {
        "pruners/scores/gradient.py",
        "conf/method/gradient.yaml",
    }
    python(
        tmp_path, "run.py", "method=gradient", "density=0.1", "dataset=digits", "model=mlp", *QUICK
    )
    found = record(tmp_path, "gradient-mlp-digits")
    assert found["kept"] == round(0.1 * found["prunable"])


def test_a_new_sparse_training_method_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert apply_section("A new sparse-training method", tmp_path) == {
        "pruners/dynamic/jitter.py",
        "conf/method/jitter.yaml",
    }
    # four epochs
    python(
        tmp_path,
        "run.py",
        "method=jitter",
        "density=0.1",
        "dataset=digits",
        "model=mlp",
        *QUICK,
        "train.scale=0.025",
    )
    found = record(tmp_path, "jitter-mlp-digits")
    assert found["kept"] == round(0.1 * found["prunable"])
    # no update after the last epoch
    assert found["report"]["updates"] == 3 and found["report"]["rewired"] > 0


def test_a_new_model_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert apply_section("A new model", tmp_path) == {"models/linear.py", "conf/model/linear.yaml"}
    python(
        tmp_path,
        "run.py",
        "method=magnitude",
        "density=0.5",
        "dataset=digits",
        "model=linear",
        *QUICK,
    )
    assert record(tmp_path, "magnitude-linear-digits")["prunable"] == 640  # 64 pixels x 10 classes


REPRODUCED = {  # the files of the recipes whose page one command makes, from runs that they share
    "A new table": {"conf/table/imc_small.yaml"},
    "A new column": {"runner/suites/metrics.py", "conf/table/imc_macs.yaml"},
    "A new figure": {"conf/figure/imc_small_curve.yaml"},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a command that reproduces a table, a column and a figure."""
    copy, names = tmp_path_factory.mktemp("pages"), "imc_small,imc_macs,imc_small_curve"
    copy_code(copy)
    for heading, own in REPRODUCED.items():
        assert add_section(heading, copy) == own
    for name in names.split(","):  # each page has entries of its own
        others = {*names.split(",")} - {name}
        (path,) = (path for path in copy.glob("conf/*/*.yaml") if path.stem == name)
        assert not others & set(re.findall(r"\w+", path.read_text()))
    return copy, python(copy, "scripts/reproduce.py", names, "env.device=cpu")


def test_a_new_table_is_one_yaml(pages: tuple[Path, str]) -> None:
    _, printed = pages
    assert "SNIP against random masks" in printed
    assert re.search(r"^SNIP +0\.90 +\d+\.\d\d ± \d", printed, re.MULTILINE)
    assert re.search(
        r"^scores help: SNIP - Random +[+-]\d+\.\d\d points, 2 ", printed, re.MULTILINE
    )


def test_a_new_column_is_one_object(pages: tuple[Path, str]) -> None:
    copy, printed = pages
    # 64 x 300 + 300 x 300 + 300 x 10 = 112,200
    assert re.search(r"^Dense .* 0\.11 M$", printed, re.MULTILINE)
    assert re.search(r"^SNIP .* 0\.01 M$", printed, re.MULTILINE)
    lines = list(
        csv.DictReader((copy / "results" / "tables" / "imc_macs.csv").read_text().splitlines())
    )
    assert [(line["row"], line["macs"]) for line in lines] == [
        ("Dense", "112200"),
        ("SNIP", "11220"),
    ]


def test_a_new_figure_is_one_yaml(pages: tuple[Path, str]) -> None:
    copy, printed = pages
    assert "SNIP: 2 points" in printed and "random masks lose" in printed
    assert (copy / "results" / "figures" / "imc_small_curve.svg").is_file()


def test_a_new_data_set_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert apply_section("A new data set", tmp_path) == {
        "runner/data/stripes.py",
        "conf/dataset/stripes.yaml",
    }
    assert (
        python(tmp_path, "scripts/fetch_data.py", "stripes")
        == "stripes is ready; use it with dataset=stripes\n"
    )
    python(tmp_path, "run.py", "method=dense", "dataset=stripes", "model=mlp", *QUICK)
    (path,) = (tmp_path / "results" / "runs").glob("dense-mlp-stripes-*/result.json")
    record = json.loads(path.read_text())
    checksum = re.search(r'CHECKSUM = "(\w+)"', (tmp_path / "runner/data/stripes.py").read_text())
    assert checksum and record["provenance"]["dataset_checksum"] == checksum[1]
    # two classes that a linear map separates
    assert record["dataset"] == "stripes" and record["accuracy"] > 80


def test_a_new_learning_rate_schedule_is_a_class_and_a_yaml(tmp_path: Path) -> None:
    assert apply_section("A new learning-rate schedule", tmp_path) == {
        "runner/spec/lr_schedule.py",
        "conf/lr_schedule/linear.yaml",
    }
    for name in ("linear", "constant"):
        python(
            tmp_path,
            "run.py",
            "method=dense",
            f"train.lr_schedule={name}",
            "dataset=digits",
            "model=mlp",
            *QUICK,
        )
    paths = list((tmp_path / "results" / "runs").glob("*/config.yaml"))
    linear, constant = (
        json.loads(path.with_name("result.json").read_text())
        for name in ("linear", "constant")
        for path in paths
        if f"lr_schedule: {name}" in path.read_text()
    )
    # the decreasing rate gives another loss
    assert linear["run_id"] != constant["run_id"] and linear["test_loss"] != constant["test_loss"]
    rates = python(
        tmp_path,
        "-c",
        "from runner.spec.lr_schedule import Linear; print([Linear(0.5)(0.8, step, 4) for step in"
        " range(4)])",
    )
    assert json.loads(rates) == pytest.approx([0.8, 0.7, 0.6, 0.5])  # 0.8 (1 - t / 8)


def test_a_new_launcher_is_one_module_and_one_yaml(tmp_path: Path) -> None:
    assert apply_section("A new launcher", tmp_path) == {
        "runner/launch/serial.py",
        "conf/hydra/launcher/serial.yaml",
    }
    sweep = [
        "run.py",
        "-m",
        "method=random",
        "density=0.5",
        "seed=0,1",
        "hydra/launcher=serial",
        "dataset=digits",
        "model=mlp",
        *QUICK,
    ]
    printed = python(tmp_path, *sweep)
    names = sorted(
        path.parent.name for path in (tmp_path / "results" / "runs").glob("*/result.json")
    )
    assert [name.rpartition("-")[0][-2:] for name in names] == ["s0", "s1"]
    assert "2 runs, 0 done, 2 to do" in printed
    assert re.findall(r"^ended: (.*)$", printed, re.MULTILINE) == names
    again = python(tmp_path, *sweep, "hydra.launcher.stop_on_error=true")
    assert "2 runs, 2 done, 0 to do" in again and "ended" not in again
