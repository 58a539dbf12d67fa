"""Commands that compute nothing import no torch, and a repeated one never answers for another."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, environment, records

from runner.code import code_digest
from runner.commands import repeated
from runner.commands.repeated import answer
from runner.commands.warm import warm
from runner.config.help import choices
from runner.paths import PUBLISHED

Command = Callable[..., subprocess.CompletedProcess[str]]
FAST = ["method=random", "density=0.5", *SMALL, "train_fraction=0.1"]


def modules(call: str, *words: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """The top-level modules that a command has loaded at its end, and the command."""
    code = (
        f"import sys\nsys.argv = ['', *{list(words)!r}]\ntry:\n    {call}\nexcept SystemExit:\n"
        "    pass\nprint('END', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("END")[2].split()), done


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--help"], "Choices (GROUP=NAME"),
        (["method=imc", "-h"], "Choices (GROUP=NAME"),
        (["--cfg", "job"], "method:"),
        (["method=snpi"], "did you mean 'snip'"),
        (["train.momentun=0.9"], "did you mean 'momentum'"),
        (["--help", "method=snpi"], "did you mean 'snip'"),
    ],
)
def test_help_and_errors_of_composition_import_no_torch(words: list[str], printed: str) -> None:
    loaded, done = modules("import run; run.main()", *words)
    assert printed in done.stdout + done.stderr
    assert "hydra" in loaded
    assert not {"torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib"} & loaded


@pytest.mark.parametrize(
    "call",
    [
        "from runner.commands.tables import print_tables as command; command(sys.argv[1:])",
        "from runner.commands.plan import show_plan; from runner.console import console;"
        " show_plan(sys.argv[1:], console())",
    ],
    ids=["tables", "plan"],
)
def test_tables_and_plans_of_finished_runs_import_no_torch(call: str, tmp_path: Path) -> None:
    records = tmp_path / "results" / "records"
    records.mkdir(parents=True)
    name = "imc_table01@digits"
    shutil.copy(PUBLISHED / "records" / f"{name}.jsonl", records)
    words = [name, "models=resnet20", f"env.results_dir={tmp_path / 'results'}"]
    words += [f"env.cache_dir={tmp_path / 'cache'}", "train=quick", "seeds=0"]
    first, again = (modules(call, *words) for _ in range(2))
    text = again[1].stdout.rpartition("END")[0]
    assert text == first[1].stdout.rpartition("END")[0]
    assert "99.17" in text or "done 14" in text, text
    assert "torch" in first[0] and "torch" not in again[0]
    assert "pandas" not in first[0] | again[0]


@pytest.mark.parametrize("script", ["tables", "plan", "figures"])
def test_errors_of_composition_of_tables_import_no_torch(script: str, tmp_path: Path) -> None:
    words = ["imc_table01@digits", "train.momentun=0.9", f"env.results_dir={tmp_path}"]
    words += [f"env.cache_dir={tmp_path}"]
    call = f"import runpy; runpy.run_path('scripts/{script}.py', run_name='__main__')"
    loaded, done = modules(call, *words)
    assert "did you mean 'momentum'" in done.stderr
    assert "torch" not in loaded


def test_the_report_and_what_reads_records_import_no_torch() -> None:
    loaded, _ = modules(
        "import runner.commands.report, runner.commands.published, runner.records.find"
    )
    assert "torch" not in loaded


def test_the_help_is_the_one_that_hydra_prints() -> None:
    ours, hydras = (
        subprocess.run(
            [sys.executable, "run.py", "--help", *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=environment(),
        ).stdout
        for more in ([], ["hydra.verbose=false"])  # with an option of Hydra's, its own help
    )
    assert "Choices" in ours and ours == hydras


def test_the_help_lists_the_choices_in_the_users_own_folders(tmp_path: Path) -> None:
    own = tmp_path / "conf" / "model" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: mlp\nname: own\n")
    found = choices([f"hydra.searchpath=[file://{own.parent.parent}]"])
    assert {"own", "mlp"} < set(found["model"]) and "own" not in choices([])["model"]


def test_a_repeated_command_says_that_the_run_is_done_and_when_and_imports_no_torch(
    command: Command, dirs: list[str], tmp_path: Path
) -> None:
    first = command(*FAST)
    assert first.returncode == 0, first.stderr
    loaded, again = modules("import run; run.main()", *FAST, *dirs)
    lines = again.stdout.partition("END")[0].splitlines(keepends=True)
    (record,) = records(tmp_path)
    ended = record["provenance"]["finished"][:16].replace("T", " ")  # it is in UTC
    assert lines.pop(1).split(maxsplit=2)[2] == f"{ended} UTC; nothing was computed now\n"
    assert [line.split() for line in lines] == [line.split() for line in first.stdout.splitlines()]
    assert not {"torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib"} & loaded


def test_a_run_does_not_import_the_compiler_of_torch(dirs: list[str]) -> None:
    loaded, done = modules("import run; run.main()", *FAST, *dirs)
    assert "test accuracy" in done.stdout, done.stderr
    assert "torch" in loaded and "sympy" not in loaded  # it takes half a second


def test_a_command_composes_its_configuration_once(dirs: list[str]) -> None:
    call = (
        "import run\n    import hydra._internal.config_loader_impl as hydras\n"
        "    Loader = hydras.ConfigLoaderImpl\n"
        "    load, n = Loader.load_configuration, []\n"
        "    Loader.load_configuration = lambda *a, **k: (n.append(1), load(*a, **k))[1]\n"
        "    try:\n        run.main()\n    finally:\n        print('COMPOSED', len(n))"
    )
    _, done = modules(call, *FAST, *dirs, "env.plan=true")
    assert "COMPOSED 1\n" in done.stdout


def test_only_the_same_command_of_the_same_code_is_answered(
    command: Command, dirs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*FAST, *dirs]
    assert not answer(words)
    assert command(*FAST).returncode == 0
    assert answer(words)
    for other in ("seed=1", "density=0.25", "env.plan=true", "env.device=cuda", "method=nothing"):
        key = other.partition("=")[0]
        assert not answer([*(w for w in words if w.partition("=")[0] != key), other])
    with monkeypatch.context() as patch:
        patch.setattr(repeated, "code_digest", lambda: "of other code")
        assert not answer(words)
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "0")
        patch.setenv("WORLD_SIZE", "2")
        assert not answer(words)  # the run prints a note
    (known,) = (tmp_path / "cache" / "requests").glob("*.json")
    intact = known.read_bytes()
    known.write_bytes(intact.replace(b"random", b"rand0m"))
    assert not answer(words)
    known.write_bytes(intact)
    assert answer(words)
    (record,) = (tmp_path / "results" / "runs").glob("*/result.json")
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    assert not answer(words)


def test_a_fork_server_has_read_the_code_for_its_jobs() -> None:
    code_digest.cache_clear()
    warm()
    before = code_digest.cache_info()
    assert before.currsize == 1
    code_digest()
    assert code_digest.cache_info().misses == before.misses


def test_every_file_that_can_influence_a_run_is_part_of_the_digest(tmp_path: Path) -> None:
    files = [
        tmp_path / name for name in ("run.py", "runner/a.py", "models/b.py", "conf/model/c.yaml")
    ]
    digests = set()

    def note() -> None:
        code_digest.cache_clear()
        digests.add(code_digest(tmp_path))

    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
        note()
    for file in files:
        file.write_text("2")
        note()
        file.rename(file.with_name("d" + file.suffix)) if file.name != "run.py" else None
        note()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "e.py").write_text("no part of the code")
    note()
    code_digest.cache_clear()
    assert len(digests) == 4 + 4 + 3


def test_a_run_that_depends_on_further_files_is_not_kept(
    command: Command, dirs: list[str], tmp_path: Path
) -> None:
    dense = command("method=dense", *SMALL, "train_fraction=0.1")
    assert dense.returncode == 0, dense.stderr
    kept = set((tmp_path / "cache" / "requests").glob("*"))
    artefacts = sorted((tmp_path / "cache" / "stages").glob("*/weights.safetensors"))
    loaded = command(
        "method=magnitude",
        "density=0.5",
        "start=dense",
        "retrain=finetune",
        f"start.weights={artefacts[0]}",
        *SMALL,
        "train_fraction=0.1",
    )
    assert loaded.returncode == 0, loaded.stderr
    own = tmp_path / "own"
    own.mkdir()
    assert command(*FAST, "seed=1", f"hydra.searchpath=[file://{own}]").returncode == 0
    assert set((tmp_path / "cache" / "requests").glob("*")) == kept
