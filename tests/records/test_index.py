"""The index gives what the files have, follows every change of them, and never gets in the way."""

import json
import os
import time
from pathlib import Path

import pytest
from record_support import run_name, valid_record

from runner.records import index as index_module
from runner.records.find import all_records, find_record
from runner.records.index import FEW, NAME, index_of, indexed

COUNT = FEW + 5
LONG_AGO = time.time_ns() - 10**10


def write(root: Path, seed: int, accuracy: float = 90.0, at: int = LONG_AGO) -> Path:
    path = root / "runs" / run_name(seed) / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name("new")
    made.write_text(json.dumps(valid_record(seed, accuracy=accuracy)))
    os.utime(made, ns=(at, at))
    made.rename(path)
    return path


def accuracies(root: Path) -> list[float]:
    """By seed, as a new process reads them."""
    index_of.cache_clear()
    with indexed(root):
        found = {record["seed"]: record["accuracy"] for record in all_records(root)}
    return [found[seed] for seed in sorted(found)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A results directory with an index."""
    for seed in range(COUNT):
        write(tmp_path, seed)
    assert accuracies(tmp_path) == [90.0] * COUNT
    assert (tmp_path / NAME).is_file()
    return tmp_path


def test_records_of_the_index_are_not_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(all_records(root))
    index_of.cache_clear()
    monkeypatch.setattr("runner.records.folders.read_run", lambda folder: None)
    assert list(all_records(root)) == expected and len(expected) == COUNT


def test_every_change_of_a_run_is_seen(root: Path) -> None:
    write(root, 0, 10.0, LONG_AGO + 1)  # the same size, another time
    write(root, 1, 20.0)  # the same size and time, another file
    found = accuracies(root)
    assert found[:3] == [10.0, 20.0, 90.0] and len(found) == COUNT
    (root / "runs" / run_name(2) / "metrics.jsonl").write_text("{")
    (root / "runs" / run_name(3) / "config.yaml").write_text("seed: 9\n")
    (root / "runs" / run_name(4) / "result.json").unlink()
    assert len(accuracies(root)) == COUNT - 3


def test_a_run_that_was_just_written_is_read_from_its_files(tmp_path: Path) -> None:
    for seed in range(COUNT):
        write(tmp_path, seed, at=time.time_ns())
    assert accuracies(tmp_path) == [90.0] * COUNT
    assert not (tmp_path / NAME).exists()  # a second change could leave the same times


def test_few_records_have_no_index(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, seed)
    assert accuracies(tmp_path) == [90.0] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("damage", ["", "x", "half", "flip", "rules", "folder"])
def test_an_index_that_does_not_verify_is_made_again(
    damage: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / NAME
    intact = path.read_bytes()
    rules, rest = intact.split(b"\n", 1)
    contents = {
        "half": intact[: len(intact) // 2],
        "flip": intact.replace(b"90.0", b"91.0"),
        "rules": rules[::-1] + b"\n" + rest.replace(b"90.0", b"91.0"),
    }
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(contents.get(damage, damage.encode()))
    assert accuracies(root) == [90.0] * COUNT
    assert damage == "folder" or capsys.readouterr().err == ""
    index_of.cache_clear()
    known = index_of(root).lines if damage != "folder" else {}
    assert damage == "half" or damage == "folder" or len(known) == COUNT


def test_runs_that_were_removed_leave_the_index(root: Path) -> None:
    for seed in range(10):
        folder = root / "runs" / run_name(seed)
        (folder / "result.json").unlink()
        folder.rmdir()
    for seed in range(COUNT, 2 * COUNT):
        write(root, seed)
    assert len(accuracies(root)) == 2 * COUNT - 10
    index_of.cache_clear()
    assert len(index_of(root).lines) == 2 * COUNT - 10


def test_results_that_cannot_be_written_are_read_without_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(COUNT):
        write(tmp_path, seed)

    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))  # what a read-only folder gives

    monkeypatch.setattr(index_module, "write_bytes", refuse)
    assert accuracies(tmp_path) == [90.0] * COUNT
    assert find_record(run_name(0), tmp_path)
