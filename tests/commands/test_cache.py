"""make cache prints sizes and removes unused stages on request only, and never locked ones."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment
from omegaconf import OmegaConf
from rich.console import Console
from support import compose_run, machine, perform_run

from runner.commands.cache import Item, items, upkeep
from runner.config.compose import compose_config
from runner.display.sizes import readable
from runner.engine.ticket import load_ticket
from runner.errors import ConfigError
from runner.files import held
from runner.spec.identity import run_id, stage_keys
from runner.suites.expand import expand

# prune and train, with the record in results
MINE = ["method=snip", "density=0.5", *SMALL]
# a run in the same cache, with its record in another directory
OTHERS = ["method=dense", *SMALL, "seed=1"]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of two runs, whose records are in two directories."""
    folder = tmp_path_factory.mktemp("cache")
    for overrides, results in ((MINE, "results"), (OTHERS, "others")):
        run, where = compose_run(*overrides), machine(folder, results)
        record, _ = perform_run(run, where)
        home = where.results_dir / "runs" / run_id(run)
        home.mkdir(parents=True, exist_ok=True)
        (home / "result.json").write_text(json.dumps(record))
        OmegaConf.save(compose_config(overrides), home / "config.yaml", resolve=True)
    return folder


@pytest.fixture
def workspace(pattern: Path, tmp_path: Path) -> Path:
    """A copy of `pattern` that a test may change."""
    shutil.copytree(pattern, tmp_path / "place")
    return tmp_path / "place"


def run_cache(workspace: Path, *overrides: str) -> str:
    out = io.StringIO()
    own = [
        f"env.cache_dir={workspace / 'cache'}",
        f"env.results_dir={workspace / 'results'}",
        "imc_table01@digits",
    ]
    assert upkeep([*own, *overrides], Console(file=out, width=400, highlight=False)) == 0
    return out.getvalue()


def files(workspace: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.rglob("*")}


def artefact(workspace: Path, overrides: list[str], stage: str) -> Path:
    return workspace / "cache" / "stages" / stage_keys(compose_run(*overrides))[stage]


def entries(workspace: Path, used: set[str] | None = None) -> dict[str, Item]:
    return {item.path.name: item for item in items(workspace / "cache", used or set())}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_without_remove_the_command_lists_unused_stages_and_changes_no_file(
    workspace: Path,
) -> None:
    before, unused = files(workspace), artefact(workspace, OTHERS, "dense")
    text = run_cache(workspace)
    assert files(workspace) == before
    assert f"would remove train {unused}, 1.0 MB, 0.0 days old" in text
    assert text.count("would remove") == 1
    assert f"unused: 1 of 3, {readable(size(unused))}" in text
    assert 'Nothing was removed. To remove these: make cache ARGS="remove=true"' in text


def test_sizes_by_kind_and_age_equal_those_on_disk(workspace: Path) -> None:
    old = artefact(workspace, MINE, "prune")
    for path in [old, *old.iterdir()]:
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in run_cache(workspace).splitlines()
        if line.startswith("│")
    }
    stages = {kind: [artefact(workspace, MINE, kind)] for kind in ("prune", "train")}
    stages["train"].append(artefact(workspace, OTHERS, "dense"))
    for kind, paths in stages.items():
        sizes = [size(path) for path in paths]
        # pruning stores weights and masks, training also momentum: 451,240 + 112,200 (+ 451,240)
        # bytes and some text
        assert rows[kind][:3] == [str(len(paths)), readable(sum(sizes)), readable(sizes[0])]
        assert rows[kind][4] == readable(sum(sizes[1:]))
    assert rows["under 30 days"][:2] == ["1", readable(size(old))]
    assert rows["under a day"][0] == "2"
    assert rows["older"][0] == "0"
    assert rows["all"][:2] == ["3", readable(size(workspace / "cache" / "stages"))]
    # entries include their folders
    assert sum(item.size for item in entries(workspace).values()) == pytest.approx(
        size(workspace / "cache" / "stages"), abs=4096 * 3
    )


def test_only_unused_stages_are_removed_and_tickets_still_load(workspace: Path) -> None:
    unused = artefact(workspace, OTHERS, "dense")
    text = run_cache(workspace, "remove=true")
    assert f"removed train {unused}" in text and "freed 1.0 MB" in text
    assert not unused.exists() and not list((workspace / "cache" / "tmp").iterdir())
    _, masks = load_ticket(run_id(compose_run(*MINE)), workspace / "results", workspace / "cache")
    assert sum(int(mask.sum()) for mask in masks.values()) == 56_100  # half of 112,200
    assert "unused: 0 of 2, 0 bytes" in run_cache(workspace, "remove=true")


def test_stages_of_records_in_another_results_directory_are_kept(workspace: Path) -> None:
    run_cache(workspace, "remove=true", f"results={workspace / 'others'}")
    assert artefact(workspace, OTHERS, "dense").exists()


def test_a_stage_of_a_table_is_kept(workspace: Path) -> None:
    scale = "train.scale=0.0123"
    key = expand("imc_table01@digits", {}, [scale]).jobs[0].keys["dense"]
    stage = artefact(workspace, OTHERS, "dense").rename(workspace / "cache" / "stages" / key)
    run_cache(workspace, "remove=true", scale)
    assert stage.exists()
    run_cache(workspace, "remove=true")  # the table at its default scale does not use it
    assert not stage.exists()


def test_a_locked_stage_is_kept(workspace: Path) -> None:
    unused = artefact(workspace, OTHERS, "dense")
    with held(workspace / "cache" / "locks" / f"{unused.name}.lock", lambda holder: None):
        assert f"kept, a process holds its lock: train {unused}" in run_cache(
            workspace, "remove=true"
        )
    assert unused.exists()
    run_cache(workspace, "remove=true")
    assert not unused.exists()


def test_the_checkpoint_of_a_running_or_interrupted_run_is_kept(workspace: Path) -> None:
    overrides = ["method=dense", *SMALL, "train.scale=1000", "env.checkpoint_seconds=0.2"]
    where = [f"env.cache_dir={workspace / 'cache'}", f"env.results_dir={workspace / 'interrupted'}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *overrides, *where],
        cwd=workspace,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    checkpoint = (
        workspace / "cache" / "checkpoints" / f"{stage_keys(compose_run(*overrides))['dense']}.pt"
    )
    start = time.monotonic()
    while not checkpoint.is_file():
        assert process.poll() is None and time.monotonic() - start < 120
        time.sleep(0.05)
    text = run_cache(workspace, "remove=true")  # without the results directory of the run
    assert f"kept, a process holds its lock: checkpoint {checkpoint}" in text
    assert checkpoint.is_file()
    process.send_signal(signal.SIGKILL)
    process.wait()
    # the run would resume from it
    assert "would remove checkpoint" not in run_cache(
        workspace, f"results={workspace / 'interrupted'}"
    )
    assert f"removed checkpoint {checkpoint}" in run_cache(workspace, "remove=true")
    assert not checkpoint.exists()


def test_leftovers_are_removed_after_a_day_and_damaged_artefacts_at_once(workspace: Path) -> None:
    tmp = workspace / "cache" / "tmp"
    for name, days in (("a" * 32 + "-old", 2.0), ("b" * 32 + "-young", 0.1)):
        (tmp / name).mkdir(parents=True)
        (tmp / name / "weights.safetensors").write_bytes(b"half")
        for path in (tmp / name / "weights.safetensors", tmp / name):
            os.utime(path, (time.time() - days * 86400,) * 2)
    broken, kept = artefact(workspace, OTHERS, "dense"), artefact(workspace, MINE, "train")
    (broken / "stage.json").unlink()
    text = run_cache(workspace, "remove=true")
    assert "removed leftover" in text
    assert [path.name for path in tmp.iterdir()] == ["b" * 32 + "-young"]
    assert f"removed damaged {broken}" in text and not broken.exists() and kept.exists()


def test_many_artefacts_are_listed_without_reading_a_tensor(workspace: Path) -> None:
    meta = (artefact(workspace, MINE, "train") / "stage.json").read_text()
    for i in range(2000):
        folder = workspace / "cache" / "stages" / f"{i:032x}"
        folder.mkdir()
        (folder / "stage.json").write_text(meta)
        (folder / "weights.safetensors").write_bytes(b"no tensor")
    listed = entries(workspace)
    assert len(listed) == 2003
    assert listed[f"{7:032x}"].kind == "train"
    assert listed[f"{7:032x}"].removable
    assert "unused: 2,001 of 2,003" in run_cache(workspace)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["remove=maybe"], "remove=maybe must be true or false"),
        (["results=nowhere"], "results=nowhere is not a directory"),
        (["imc_table1"], "TABLE=imc_table1 is not a choice.*did you mean 'imc_table01'"),
        (["sed=1"], "sed is not a key.*did you mean 'seed'"),
    ],
)
def test_invalid_arguments_give_an_error_and_nothing_is_removed(
    overrides: list[str], message: str, workspace: Path
) -> None:
    before = files(workspace)
    with pytest.raises(ConfigError, match=message):
        run_cache(workspace, "remove=true", *overrides)
    assert files(workspace) == before


def test_the_script_gives_a_one_line_error_for_invalid_input(tmp_path: Path) -> None:
    done: Any = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "cache.py"), "remove=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: remove=1 must be true or false")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
