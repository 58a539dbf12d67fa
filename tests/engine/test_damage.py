"""Damaged stages, checkpoints and records are set aside, named in one line and computed again."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from rich.console import Console
from support import compose_run, machine, perform_run

import runner
from runner.commands.cache import upkeep
from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import execute, perform
from runner.engine.machine import Machine
from runner.engine.record import comparable
from runner.engine.store import Artefact, Store
from runner.errors import Stopped
from runner.records.find import all_records, find_record, is_done, record_in, state
from runner.records.folders import seal
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import Run

# stages dense (with momentum and a snapshot), prune, train and a measurement with a series
RUN = ["method=magnitude", "density=0.3", "start=dense", "retrain=rewind", "portrait=weights"]
TINY = [*SMALL, "model.hidden=[16]"]

Damage = Callable[[Path, Path], None]  # of a file or folder; the second path: that of another seed


def overwritten(start: float, length: int) -> Damage:
    """Random bytes from the share `start` of the file on."""

    def damage(path: Path, other: Path) -> None:
        content = bytearray(path.read_bytes())
        first = min(int(start * len(content)), len(content) - 1)
        for i in range(first, min(first + length, len(content))):
            content[i] ^= random.Random(i).randrange(1, 256)
        path.write_bytes(content)

    return damage


def one_bit(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def longer(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def emptied(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def deleted(path: Path, other: Path) -> None:
    path.unlink()


def folder_instead(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


def of_another_seed(path: Path, other: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copy(other, path)


DAMAGES: dict[str, Damage] = {
    "random bytes": overwritten(0.4, 16),
    "a damaged beginning": overwritten(0, 4),
    "one bit": one_bit,
    "cut": cut,
    "longer": longer,
    "emptied": emptied,
    "deleted": deleted,
    "a folder": folder_instead,
    "that of another seed": of_another_seed,
}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run, dict[str, Any]]:
    """The cache of a run and of the same run with another seed, and the first one's record."""
    folder = tmp_path_factory.mktemp("pattern")
    one, other = (compose_run(*RUN, *TINY, f"seed={seed}") for seed in (0, 1))
    perform_run(other, machine(folder))
    found, _ = perform_run(one, machine(folder))
    return folder, one, other, found


def equal(one: dict[str, Artefact], other: dict[str, Artefact]) -> bool:
    parts = ("weights", "masks", "optimizer", "findings")
    return all(
        list(a := getattr(one[name], part)) == list(b := getattr(other[name], part))
        and all(torch.equal(a[k], b[k]) for k in a)
        for name in one
        for part in parts
    )


def cases() -> Iterator[tuple[str, str, str]]:
    for stage, file in (
        ("dense", "weights.safetensors"),
        ("dense", "optimizer.safetensors"),
        ("dense", "epoch_0001.safetensors"),
        ("prune", "masks.safetensors"),
        ("prune", "stage.json"),
        ("train", "weights.safetensors"),
        ("portrait", "stage.json"),
    ):
        for kind in DAMAGES:
            yield stage, file, kind
    yield "prune", "", "that of another seed"
    yield "dense", "", "that of another seed"


def test_a_damaged_stage_is_set_aside_named_in_one_line_and_computed_again(
    pattern: tuple[Path, Run, Run, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, run, other, undisturbed = pattern
    keys, others = stage_keys(run), stage_keys(other)
    (snapshot,) = (path.name for path in Store(folder / "cache").path(keys["dense"]).glob("epoch*"))
    _, whole = perform_run(run, machine(folder))
    for number, (stage, file, kind) in enumerate(cases()):
        where = machine(tmp_path, cache=f"cache{number}")
        shutil.copytree(folder / "cache", where.cache_dir)
        store, file = Store(where.cache_dir), snapshot if file.startswith("epoch") else file
        DAMAGES[kind](store.path(keys[stage]) / file, store.path(others[stage]) / file)
        if number % 2:  # else what follows is cached and whole
            for later in list(keys)[list(keys).index(stage) + 1 :]:
                shutil.rmtree(store.path(keys[later]))
        capsys.readouterr()
        found, artefacts = perform_run(run, where)
        case = f"{stage}/{file}: {kind}"
        assert comparable(found) == comparable(undisturbed) and equal(artefacts, whole), case
        (aside,) = (where.cache_dir / "damaged").iterdir()
        assert aside.name.startswith(f"{keys[stage]}-"), case
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{store.path(keys[stage])}" in line and f"moved to {aside}" in line, line
        shutil.rmtree(where.cache_dir)


def test_a_stage_that_is_damaged_while_the_run_uses_it_is_computed_again(
    pattern: tuple[Path, Run, Run, dict[str, Any]], tmp_path: Path
) -> None:
    folder, run, _, undisturbed = pattern
    where = machine(tmp_path)
    shutil.copytree(folder / "cache", where.cache_dir)
    store, keys = Store(where.cache_dir), stage_keys(run)
    for name in ("train", "portrait"):
        shutil.rmtree(store.path(keys[name]))
    watcher = Watcher(tmp_path / "run", display("none", Console()), {})
    times = iter(range(10))

    def stop() -> bool:  # asked after each stage: after `dense` was accepted, its weights change
        if next(times, 1) == 0:
            one_bit(store.path(keys["dense"]) / "weights.safetensors", Path())
        return False

    found = perform(RunContext(run, where, store, watcher, stop), run_id(run))
    assert comparable(found) == comparable(undisturbed)


def interrupted(run: Run, where: Machine) -> Path:
    """Stop the run's first training after three steps; the path of its checkpoint."""
    left, store = iter([False, False]), Store(where.cache_dir)
    watcher = Watcher(where.results_dir / "run", display("none", Console()), {})
    with pytest.raises(Stopped):
        perform(RunContext(run, where, store, watcher, lambda: next(left, True)), run_id(run))
    return store.checkpoint_path(stage_keys(run)["dense"])


def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_from_its_beginning(
    pattern: tuple[Path, Run, Run, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, run, other, undisturbed = pattern
    theirs = interrupted(other, machine(tmp_path, cache="theirs"))
    for number, (kind, damage) in enumerate(DAMAGES.items()):
        where = machine(tmp_path, cache=f"cache{number}")
        path = interrupted(run, where)
        damage(path, theirs)
        capsys.readouterr()
        found, _ = perform_run(run, where)
        assert comparable(found) == comparable(undisturbed), kind
        if kind == "deleted":
            assert not (where.cache_dir / "damaged").exists()
            continue
        (aside,) = (where.cache_dir / "damaged").iterdir()
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path} is damaged" in line and f"moved to {aside}" in line, (kind, line)


def test_an_artefact_without_a_manifest_is_computed_again(
    pattern: tuple[Path, Run, Run, dict[str, Any]], tmp_path: Path
) -> None:
    folder, run, _, undisturbed = pattern
    where, key = machine(tmp_path), stage_keys(run)["prune"]
    shutil.copytree(folder / "cache", where.cache_dir)
    file = Store(where.cache_dir).path(key) / "stage.json"
    file.write_text(json.dumps(Store(where.cache_dir).meta(key)))  # as version 0.1.0 wrote it
    found, _ = perform_run(run, where)
    assert comparable(found) == comparable(undisturbed)
    assert [stage["cached"] for stage in found["stages"]] == [True, False, True, True]


def test_verify_finds_each_damaged_artefact_and_checkpoint(
    pattern: tuple[Path, Run, Run, dict[str, Any]], tmp_path: Path
) -> None:
    folder, run, _, _ = pattern
    where = machine(tmp_path)
    checkpoint = interrupted(run, where)
    shutil.copytree(folder / "cache" / "stages", where.cache_dir / "stages")
    words = ["imc_table01@digits", f"env.cache_dir={where.cache_dir}", "verify=true"]
    words += [f"env.results_dir={where.results_dir}"]
    console = Console(record=True, width=300)
    assert upkeep(words, console) == 0
    assert "verified: 9 artefacts and checkpoints" in console.export_text()
    damaged = [Store(where.cache_dir).path(stage_keys(run)["dense"]) / "weights.safetensors"]
    damaged += [checkpoint]
    for path in damaged:
        one_bit(path, Path())
    assert upkeep(words, console) == 1
    output = console.export_text()
    assert all(f"{path} is damaged" in output for path in damaged)
    assert "damaged: 2; the next run that needs one" in output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """The results of a run and of the same run with another seed, and the words of the first."""
    folder, before = tmp_path_factory.mktemp("finished"), torch.backends.cudnn.deterministic
    dirs = [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]
    words = [*RUN, *TINY, *dirs]
    for seed in ("seed=1", "seed=0"):
        assert execute(read_request(compose_config([*words, seed]))) == 0
    yield folder, words
    torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize("file", ["result.json", "series.json", "metrics.jsonl"])
def test_a_damaged_file_of_a_finished_run_is_named_and_made_again(
    file: str, finished: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = finished
    request, results = read_request(compose_config(words)), folder / "results"
    home = results / "runs" / run_id(request.run)
    (other,) = (path for path in home.parent.iterdir() if path.name != home.name)
    before = {p.name: p.read_bytes() for p in home.iterdir() if p.is_file()}
    for kind, damage in DAMAGES.items():
        damage(home / file, other / file)
        capsys.readouterr()
        if (file, kind) == ("result.json", "longer"):  # white space at the end of JSON is harmless
            assert is_done(results, home.name)
            continue
        assert not is_done(results, home.name) and state(results, home.name) != "done", kind
        if file == "result.json":
            assert find_record(home.name, results) is None
            assert [record["run_id"] for record in all_records(results)] == [other.name]
            with pytest.raises(FileNotFoundError, match="is not finished"):
                runner.load_ticket(home.name, results, folder / "cache")
        lines = capsys.readouterr().err.splitlines()
        assert kind == "deleted" or all(f"{home / file} is damaged" in line for line in lines)
        assert execute(request) == 0
        found = record_in([results], home.name)
        assert found is not None and comparable(found) == comparable(json.loads(before[RECORD]))
        for name in ("series.json", "metrics.jsonl"):
            assert (home / name).read_bytes() == before[name], (kind, name)
        aside = list(home.glob(f"{file}.damaged-*"))
        assert len(aside) == (file == "result.json" and kind != "deleted") or kind == "a folder"
        for path in aside:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


RECORD = "result.json"


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"accuracy": float("nan")}, {"kept": 10**12}, {"seed": 7}]
)
def test_a_record_that_is_not_valid_does_not_stop_its_own_run(
    change: dict[str, Any],
    finished: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, words = finished
    request = read_request(compose_config(words))
    path = folder / "results" / "runs" / run_id(request.run) / RECORD
    before = json.loads(path.read_bytes())
    path.write_text(json.dumps(seal({**before, **change})))
    assert not is_done(folder / "results", path.parent.name)
    assert execute(request) == 0
    assert comparable(json.loads(path.read_bytes())) == comparable(before)
    assert f"{path} is damaged" in capsys.readouterr().err
    (aside,) = path.parent.glob(f"{RECORD}.damaged-*")
    aside.unlink()


def test_records_without_checksums_stay_valid(finished: tuple[Path, list[str]]) -> None:
    folder, words = finished
    results, name = folder / "results", run_id(read_request(compose_config(words)).run)
    path = results / "runs" / name / RECORD
    content = path.read_bytes()
    record = json.loads(content)
    del record["provenance"]["checksum"], record["provenance"]["files"]
    path.write_text(json.dumps(record))
    assert record_in([results], name) == record and is_done(results, name)
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["stage.json", "weights.safetensors", "masks.safetensors"])
def test_load_ticket_names_a_damaged_file_in_one_message(
    file: str, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, words = finished
    run = read_request(compose_config(words)).run
    for kind, damage in DAMAGES.items():
        cache = tmp_path / kind
        shutil.copytree(folder / "cache", cache)
        path = Store(cache).path(stage_keys(run)["train"]) / file
        damage(path, Store(cache).path(stage_keys(run)["dense"]) / file)
        with pytest.raises(FileNotFoundError, match="is damaged.*run it again") as caught:
            runner.load_ticket(run_id(run), folder / "results", cache)
        assert str(path) in str(caught.value), kind


@pytest.mark.parametrize("text", ["", "][", "method: [", "a: 1", "{{{"])
def test_load_ticket_names_a_damaged_configuration(
    text: str, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, words = finished
    name = run_id(read_request(compose_config(words)).run)
    shutil.copytree(folder / "results", tmp_path / "results")
    (tmp_path / "results" / "runs" / name / "config.yaml").write_text(text)
    with pytest.raises(FileNotFoundError, match=r"config.yaml is damaged"):
        runner.load_ticket(name, tmp_path / "results", folder / "cache")
