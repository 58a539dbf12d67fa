"""make cache: sizes as the disk has them, what is of use kept, the rest removed only when asked,
nothing under a lock. On artefacts of real runs."""

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

MINE = ["method=snip", "density=0.5", *SMALL]  # prune and train, its record in results
OTHERS = ["method=dense", *SMALL, "seed=1"]  # in the same cache, its record in another directory


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in one cache, their records in two directories."""
    folder = tmp_path_factory.mktemp("cache")
    for words, results in ((MINE, "results"), (OTHERS, "others")):
        run, where = compose_run(*words), machine(folder, results)
        record, _ = perform_run(run, where)
        home = where.results_dir / "runs" / run_id(run)
        home.mkdir(parents=True, exist_ok=True)
        (home / "result.json").write_text(json.dumps(record))
        OmegaConf.save(compose_config(words), home / "config.yaml", resolve=True)
    return folder


@pytest.fixture
def place(pattern: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(pattern, tmp_path / "place")
    return tmp_path / "place"


def keep_up(place: Path, *words: str) -> str:
    out = io.StringIO()
    own = [
        f"env.cache_dir={place / 'cache'}",
        f"env.results_dir={place / 'results'}",
        "imc_table01@digits",
    ]
    assert upkeep([*own, *words], Console(file=out, width=400, highlight=False)) == 0
    return out.getvalue()


def files(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in place.rglob("*")}


def artefact(place: Path, words: list[str], stage: str) -> Path:
    return place / "cache" / "stages" / stage_keys(compose_run(*words))[stage]


def found(place: Path, used: set[str] | None = None) -> dict[str, Item]:
    return {item.path.name: item for item in items(place / "cache", used or set())}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_what_would_be_removed_is_shown_and_nothing_is_touched(place: Path) -> None:
    before, unused = files(place), artefact(place, OTHERS, "dense")
    text = keep_up(place)
    assert files(place) == before
    assert (
        f"would remove train {unused}, 1.0 MB, 0.0 days old" in text
        and text.count("would remove") == 1
    )
    assert f"unused: 1 of 3, {readable(size(unused))}" in text
    assert 'Nothing was removed. To remove these: make cache ARGS="remove=true"' in text


def test_sizes_are_those_on_the_disk_by_kind_and_by_age(place: Path) -> None:
    old = artefact(place, MINE, "prune")
    for path in [old, *old.iterdir()]:
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in keep_up(place).splitlines()
        if line.startswith("│")
    }
    stages = {kind: [artefact(place, MINE, kind)] for kind in ("prune", "train")}
    stages["train"].append(artefact(place, OTHERS, "dense"))
    for kind, paths in stages.items():
        sizes = [size(path) for path in paths]
        # pruning leaves weights and masks, training the momentum too: 451,240 + 112,200 (+ 451,240)
        # and some text
        assert rows[kind][:3] == [str(len(paths)), readable(sum(sizes)), readable(sizes[0])]
        assert rows[kind][4] == readable(sum(sizes[1:]))
    assert (
        rows["under 30 days"][:2] == ["1", readable(size(old))]
        and rows["under a day"][0] == "2"
        and rows["older"][0] == "0"
    )
    assert rows["all"][:2] == ["3", readable(size(place / "cache" / "stages"))]
    # and the folders
    assert sum(item.size for item in found(place).values()) == pytest.approx(
        size(place / "cache" / "stages"), abs=4096 * 3
    )


def test_only_what_has_no_use_is_removed_and_tickets_still_load(place: Path) -> None:
    unused = artefact(place, OTHERS, "dense")
    text = keep_up(place, "remove=true")
    assert f"removed train {unused}" in text and "freed 1.0 MB" in text
    assert not unused.exists() and not list((place / "cache" / "tmp").iterdir())
    _, masks = load_ticket(run_id(compose_run(*MINE)), place / "results", place / "cache")
    assert sum(int(mask.sum()) for mask in masks.values()) == 56_100  # half of 112,200
    assert "unused: 0 of 2, 0 bytes" in keep_up(place, "remove=true")


def test_another_directorys_records_count_when_it_is_named(place: Path) -> None:
    keep_up(place, "remove=true", f"results={place / 'others'}")
    assert artefact(place, OTHERS, "dense").exists()


def test_a_stage_that_a_table_asks_for_is_kept(place: Path) -> None:
    scale = "train.scale=0.0123"
    key = expand("imc_table01@digits", {}, [scale]).jobs[0].keys["dense"]
    wanted = artefact(place, OTHERS, "dense").rename(place / "cache" / "stages" / key)
    keep_up(place, "remove=true", scale)
    assert wanted.exists()
    keep_up(place, "remove=true")  # the table at its own scale does not
    assert not wanted.exists()


def test_a_stage_whose_lock_is_held_stays(place: Path) -> None:
    unused = artefact(place, OTHERS, "dense")
    with held(place / "cache" / "locks" / f"{unused.name}.lock", lambda holder: None):
        assert f"kept, a process holds its lock: train {unused}" in keep_up(place, "remove=true")
    assert unused.exists()
    keep_up(place, "remove=true")
    assert not unused.exists()


def test_the_checkpoint_of_a_run_under_way_or_interrupted_stays(place: Path) -> None:
    words = ["method=dense", *SMALL, "train.scale=1000", "env.checkpoint_seconds=0.2"]
    where = [f"env.cache_dir={place / 'cache'}", f"env.results_dir={place / 'interrupted'}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *words, *where],
        cwd=place,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    checkpoint = place / "cache" / "checkpoints" / f"{stage_keys(compose_run(*words))['dense']}.pt"
    begun = time.monotonic()
    while not checkpoint.is_file():
        assert process.poll() is None and time.monotonic() - begun < 120
        time.sleep(0.05)
    text = keep_up(place, "remove=true")  # whose record directory it does not know
    assert (
        f"kept, a process holds its lock: checkpoint {checkpoint}" in text and checkpoint.is_file()
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    # the run goes on from it
    assert "would remove checkpoint" not in keep_up(place, f"results={place / 'interrupted'}")
    assert f"removed checkpoint {checkpoint}" in keep_up(place, "remove=true")
    assert not checkpoint.exists()


def test_leftovers_go_after_a_day_and_damaged_artefacts_at_once(place: Path) -> None:
    tmp = place / "cache" / "tmp"
    for name, days in (("a" * 32 + "-old", 2.0), ("b" * 32 + "-young", 0.1)):
        (tmp / name).mkdir(parents=True)
        (tmp / name / "weights.safetensors").write_bytes(b"half")
        for path in (tmp / name / "weights.safetensors", tmp / name):
            os.utime(path, (time.time() - days * 86400,) * 2)
    broken, kept = artefact(place, OTHERS, "dense"), artefact(place, MINE, "train")
    (broken / "stage.json").unlink()
    text = keep_up(place, "remove=true")
    assert "removed leftover" in text and [path.name for path in tmp.iterdir()] == [
        "b" * 32 + "-young"
    ]
    assert f"removed damaged {broken}" in text and not broken.exists() and kept.exists()


def test_many_artefacts_are_listed_without_reading_a_tensor(place: Path) -> None:
    meta = (artefact(place, MINE, "train") / "stage.json").read_text()
    for i in range(2000):
        folder = place / "cache" / "stages" / f"{i:032x}"
        folder.mkdir()
        (folder / "stage.json").write_text(meta)
        (folder / "weights.safetensors").write_bytes(b"no tensor")
    listed = found(place)
    assert (
        len(listed) == 2003
        and listed[f"{7:032x}"].kind == "train"
        and listed[f"{7:032x}"].removable
    )
    assert "unused: 2,001 of 2,003" in keep_up(place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remove=maybe"], "remove=maybe must be true or false"),
        (["results=nowhere"], "results=nowhere is not a directory"),
        (["imc_table1"], "TABLE=imc_table1 is not a choice.*did you mean 'imc_table01'"),
        (["sed=1"], "sed is not a key.*did you mean 'seed'"),
    ],
)
def test_bad_words_are_refused_and_nothing_is_removed(
    words: list[str], said: str, place: Path
) -> None:
    before = files(place)
    with pytest.raises(ConfigError, match=said):
        keep_up(place, "remove=true", *words)
    assert files(place) == before


def test_the_command_answers_bad_input_with_one_message(tmp_path: Path) -> None:
    done: Any = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "cache.py"), "remove=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (
        (done.returncode, done.stdout) == (2, "")
        and done.stderr.startswith("error: remove=1 must be true or false")
        and done.stderr.count("\n") == 1
    )
    assert not list(tmp_path.iterdir())
