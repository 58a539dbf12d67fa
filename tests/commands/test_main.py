"""The command `winnow`, and which checkout's code scripts run."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, copy_code, environment

from runner.errors import ConfigError
from runner.main import COMMANDS, dispatch, other_checkout
from runner.paths import typed

SCREEN, WIDTH = 24, 100  # lines and columns


def python(*words: str, folder: Path, path: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """`python WORDS` in a folder, where `path` has the installed code."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONPATH": str(path)},
        timeout=300,
    )


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second checkout, with a table that the installed code lacks, and no published results."""
    folder = tmp_path_factory.mktemp("clones") / "second"
    folder.mkdir()
    copy_code(folder)
    text = (ROOT / "conf" / "table" / "imc_table14.yaml").read_text()
    (folder / "conf" / "table" / "only_here.yaml").write_text(
        re.sub(r"^(number|title):.*$", r"title: Of the second clone", text, count=1, flags=re.M)
    )
    return folder


@pytest.mark.parametrize("script", ["plan", "tables", "publish", "reproduce", "figures"])
def test_a_script_runs_the_code_of_its_own_checkout(second: Path, script: str) -> None:
    # the environment has another clone; the first line of the message lists the tables of the code
    done = python(f"scripts/{script}.py", "only_hear", folder=second)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "did you mean 'only_here'?" in done.stderr


def test_a_script_reads_and_writes_the_results_of_its_own_checkout(second: Path) -> None:
    # from another folder, too: results/published of the second clone is empty
    seen = python(
        "-c",
        "import atexit, sys, runpy\n"
        "def show():\n"
        "    import runner.paths as p, models, pruners, hydra_plugins.winnow.launcher as h, run\n"
        "    print(p.PUBLISHED, p.PAPERS, p.CONF, models.__file__, pruners.__file__, h.__file__,"
        " run.__file__, sep='\\n')\n"
        "atexit.register(show)\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')",
        str(second / "scripts" / "tables.py"),
        "--help",
        folder=second.parent,
    )
    paths = [line for line in seen.stdout.splitlines() if line.startswith("/")]
    assert len(paths) == 7, seen.stdout + seen.stderr
    assert all(Path(path).is_relative_to(second.resolve()) for path in paths), paths


def test_every_script_is_a_command_and_every_make_target_a_script() -> None:
    names = {each.name for each in COMMANDS}
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert len(scripts) >= 12
    for script in scripts:
        (name,) = re.findall(r'script\("(\w+)"\)', script.read_text())
        assert name in names
    used = set(re.findall(r"scripts/(\w+)\.py", (ROOT / "Makefile").read_text()))
    assert used == {script.stem for script in scripts}


@pytest.mark.parametrize("name", [each.name for each in COMMANDS])
def test_the_help_of_a_command_fits_a_screen(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"winnow {name}: ") and len(lines) <= SCREEN
    assert all(len(line) <= WIDTH for line in lines)


def test_the_overview_names_every_command_and_fits_a_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dispatch(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= SCREEN
    assert {each.name for each in COMMANDS} <= set(text.split())
    assert dispatch([]) == 2 and capsys.readouterr().out == text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runner.main as m\n"
        "for words in ['--help', *(f'{c.name} --help' for c in m.COMMANDS)]:\n"
        "    m.dispatch(words.split())\n"
        "print('loaded:', *sorted({'torch', 'hydra', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    assert python("-c", code, folder=ROOT).stdout.splitlines()[-1] == "loaded:"


def test_every_command_names_a_function() -> None:
    for each in COMMANDS:
        work = getattr(importlib.import_module(each.module), each.function)
        assert ("console" in inspect.signature(work).parameters) is each.console, each.name


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="tabels is not a command.*did you mean 'tables'"):
        dispatch(["tabels"])


def test_overrides_without_a_command_are_a_run(tmp_path: Path) -> None:
    words = ["method=dense", "--cfg", "job", "-p", "train"]
    code = "import sys; sys.argv[0] = 'winnow'; from runner.main import main; main()"
    short, whole = (
        python("-c", code, *own, *words, folder=tmp_path).stdout for own in ([], ["run"])
    )
    assert short == whole == python(str(ROOT / "run.py"), *words, folder=tmp_path).stdout
    assert "batch_size: " in short


def test_the_command_says_when_it_runs_another_checkouts_code(
    second: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder, said in ((second, True), (tmp_path, False), (ROOT, False)):
        monkeypatch.chdir(folder)
        note = other_checkout(Path("/usr/bin/winnow"))
        assert bool(note) is said
        assert not said or note.startswith(f"note: winnow runs the code in {ROOT}")
    assert os.path.commonpath([ROOT, second]) != str(ROOT)


def test_messages_name_the_command_that_the_user_has() -> None:
    assert typed("data", "mnist", key="DATASET", checkout=True) == "make data DATASET=mnist"
    assert typed("data", "mnist", key="DATASET", checkout=False) == "winnow data mnist"
    words = ("mine", "seeds=0", "models=mlp")
    assert typed("plan", *words, checkout=True) == 'make plan TABLE=mine ARGS="seeds=0 models=mlp"'
    assert typed("plan", *words, checkout=False) == "winnow plan mine seeds=0 models=mlp"
    remove = ("cache", "", "remove=true")
    assert typed(*remove, checkout=True) == 'make cache ARGS="remove=true"'
    assert typed(*remove, checkout=False) == "winnow cache remove=true"


def test_without_a_makefile_no_message_names_make(tmp_path: Path) -> None:
    copy_code(tmp_path)  # the files of a wheel
    (tmp_path / "Makefile").unlink(missing_ok=True)
    small = ["env.device=cpu", "train.scale=0.0125", "env.progress=none"]
    for words, hint in {
        ("run.py", "method=dense", "dataset=cifar10", *small): "winnow data cifar10",
        ("run.py", "table=imc_table01"): "winnow reproduce imc_table01",
        ("run.py", "method=dense", "env.plan=true", *small): "winnow bench",
    }.items():
        done = python(*words, folder=tmp_path, path=tmp_path)
        printed = done.stdout + done.stderr
        assert hint in printed and "make " not in printed, printed
