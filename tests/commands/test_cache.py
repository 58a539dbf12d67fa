"""make cache prints sizes and removes unused stages on request only, and never locked ones."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment, last_of_each
from forked import start_unread
from omegaconf import OmegaConf
from rich.console import Console
from support import COMPOSER, compose_run, machine, perform_run

from runner.commands.cache import read_options, upkeep
from runner.commands.cache_items import Item, items
from runner.config.compose import compose_config
from runner.display.sizes import readable
from runner.engine.store import Manifest, Part, Store, read_manifest
from runner.engine.ticket import load_ticket
from runner.errors import ConfigError
from runner.locks import held
from runner.paths import RUN_PY
from runner.spec.identity import run_id, stage_keys
from runner.suites.expand import expand

# prune and train, with the record in results
MINE = ["method=snip", "density=0.5", "method.overlap=null", *SMALL]
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
        *([] if "young" in "".join(overrides) else ["young=0"]),
    ]
    assert upkeep([*own, *overrides], Console(file=out, width=400, highlight=False)) == 0
    return out.getvalue()


def files(workspace: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.rglob("*")}


def artefact(workspace: Path, overrides: list[str], stage: str) -> Path:
    return workspace / "cache" / "stages" / stage_keys(compose_run(*overrides))[stage]


def entries(workspace: Path, used: set[str] | None = None) -> dict[str, Item]:
    return {
        item.path.name: replace(item, used=item.key in (used or set()), young=0)
        for item in items(workspace / "cache")
    }


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
    key = expand("imc_table01@digits", {}, [scale], COMPOSER).jobs[0].keys["dense"]
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
    words = [*last_of_each(*overrides), *where]
    process = start_unread(RUN_PY, words, workspace, environment())
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


class Meanwhile(io.StringIO):
    """An output that does something else when the command has listed what it will remove."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action: Callable[[], None] | None = action

    def write(self, text: str) -> int:
        """Act once, before the first line after the listing."""
        if "unused:" in text and self.action:
            action, self.action = self.action, None
            action()
        return super().write(text)


@pytest.mark.parametrize("ends", ["finishes", "is still at work"])
def test_stages_that_another_process_uses_since_the_listing_are_kept(
    ends: str, workspace: Path
) -> None:
    unused, hours = artefact(workspace, OTHERS, "dense"), 2 * 3600
    for path in [unused, *unused.iterdir()]:
        os.utime(path, (time.time() - hours,) * 2)
    dirs = [f"env.cache_dir={workspace / 'cache'}", f"env.results_dir={workspace / 'results'}"]

    def run() -> None:
        if ends == "is still at work":
            home = workspace / "results" / "runs" / run_id(compose_run(*OTHERS))
            home.mkdir()
            OmegaConf.save(compose_config(OTHERS), home / "config.yaml", resolve=True)
            return
        assert start_unread(RUN_PY, [*OTHERS, *dirs], workspace, environment()).wait() == 0

    out = Meanwhile(run)
    words = [*dirs, "imc_table01@digits", "remove=true"]
    assert upkeep(words, Console(file=out, width=400, highlight=False)) == 0
    assert "unused: 1 of 3" in out.getvalue() and out.action is None
    assert f"kept, a run uses it now: train {unused}" in out.getvalue() and unused.is_dir()


def test_what_is_younger_than_an_hour_or_another_time_is_kept(workspace: Path) -> None:
    unused = artefact(workspace, OTHERS, "dense")
    text = run_cache(workspace, "remove=true", "young=0.5")
    assert unused.exists() and "1 more are unused but younger than young=0.5 hours" in text
    assert read_options([]).young == 1


def test_what_was_set_aside_is_listed_and_removed_on_request(workspace: Path) -> None:
    store = Store(workspace / "cache")
    aside = store.set_aside(artefact(workspace, MINE, "train"))
    assert f"would remove damaged {aside}" in run_cache(workspace) and aside.is_dir()
    assert f"removed damaged {aside}" in run_cache(workspace, "remove=true", "young=5")
    assert not aside.exists()


def test_many_artefacts_are_listed_without_reading_a_tensor(workspace: Path) -> None:
    meta = read_manifest(artefact(workspace, MINE, "train")).meta
    for i in range(2000):
        folder = workspace / "cache" / "stages" / f"{i:032x}"
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(b"no tensor")
        Manifest(folder.name, meta, {"weights.safetensors": Part(9, "0" * 64)}).write(folder)
    listed = entries(workspace)
    assert len(listed) == 2003
    assert listed[f"{7:032x}"].kind == "train"
    assert listed[f"{7:032x}"].removable
    assert "unused: 2,001 of 2,003" in run_cache(workspace)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["remove=maybe"], "remove=maybe must be true or false"),
        (["verify=1"], "verify=1 must be true or false"),
        (["young=soon"], "young=soon must be a number of hours"),
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
