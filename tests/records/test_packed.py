"""Packed records: exact numbers, verified lines, the same answers as run folders."""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from record_support import run_name, valid_record

from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.find import (
    all_records,
    find_record,
    finished_runs,
    is_done,
    record_in,
    run_in,
    state,
)
from runner.records.folders import record_path
from runner.records.packed import PackedRecords, Place, as_line, read_lines, write_lines
from runner.records.read import find_run
from runner.records.stored import StoredRun

CONFIG = {"train_fraction": 1.0, "train": {"lr": 0.1, "name": "κ"}, "density": 0.5}
ROWS = [
    {"stage": "wstar", "epoch": 1, "accuracy": 10.0},
    {"stage": "train", "epoch": 1, "accuracy": None},
    {"stage": "train", "epoch": 2, "accuracy": 90.5},
]
SERIES = {"edges": [0.1, 1 / 3], "heights": [1, 2.5]}


# ids of runs, in this order; those with the same letter have the same method
A1, A2, A7, B1, B7, C1, D1 = (
    run_name(int(seed), method) for method, seed in ("a1", "a2", "a7", "b1", "b7", "c1", "d1")
)


def record(name: str, **more: Any) -> dict[str, Any]:
    method, seed = re.fullmatch(r"(\w)-.*-s(\d+)-\w+", name).groups()  # type: ignore[union-attr]
    return valid_record(int(seed), method, **{"accuracy": 99.30555555555556, **more})


def stored(name: str, **more: Any) -> StoredRun:
    return StoredRun(record(name, **more), "", SERIES, ROWS)


def pack(root: Path, *runs: StoredRun, name: str = "table") -> Path:
    path = root / "records" / f"{name}.jsonl"
    write_lines(path, {run.run_id: as_line(run, CONFIG) for run in runs})
    return path


def write_folder(root: Path, run: StoredRun) -> None:
    folder = record_path(root, run.run_id).parent
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    (folder / "series.json").write_text(json.dumps(run.series))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in run.history))
    (folder / "result.json").write_text(json.dumps(run.record, indent=1))


def test_a_packed_run_is_read_as_its_folder(tmp_path: Path) -> None:
    run = stored(A1, accuracy=0.1 + 0.2)
    write_folder(tmp_path / "folders", run)
    pack(tmp_path / "packed", run)
    for read in (
        lambda root: find_record(A1, root),
        lambda root: find_run(A1, root),
        lambda root: list(all_records(root)),
        lambda root: state(root, A1),
        lambda root: (is_done(root, A1), is_done(root, A2)),
        lambda root: record_in([root], A2),
    ):
        assert read(tmp_path / "folders") == read(tmp_path / "packed")
    one, two = (run_in([tmp_path / root], A1) for root in ("folders", "packed"))
    assert one and two and (one.record, one.series) == (two.record, two.series)
    assert list(one.history) == list(two.history)
    assert json.loads(one.config) == json.loads(two.config) == CONFIG
    found = find_run(A1, tmp_path / "packed")
    assert found and found.numbers("history.accuracy") == [None, 90.5]  # of the last training


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_read_back_exactly(tmp_path_factory: Any, numbers: list[float]) -> None:
    run = StoredRun(record(A1), series={"numbers": numbers})
    back = read_lines(pack(tmp_path_factory.mktemp("exact"), run))[A1]["series"]["numbers"]
    assert [value.hex() for value in back] == [value.hex() for value in numbers]


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_line(stored(A1, accuracy=math.nan), CONFIG)


def test_a_file_is_sorted_and_its_other_lines_stay_byte_for_byte(tmp_path: Path) -> None:
    path = pack(tmp_path, stored(C1), stored(A1))
    first = path.read_bytes().splitlines()
    pack(tmp_path, stored(B1))
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == [A1, B1, C1]
    assert [lines[0], lines[2]] == first and path.read_bytes().endswith(b"}\n")
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    assert finished_runs(tmp_path) == [A1, B1, C1]  # although the folder was read before


def test_the_parts_of_a_run_are_found_in_all_files(tmp_path: Path) -> None:
    pack(tmp_path, StoredRun(record(A1)), name="a_table")
    pack(tmp_path, StoredRun(record(A1), series=SERIES), name="b_figure")
    pack(tmp_path, StoredRun(record(A1), history=ROWS), name="c_figure")
    run = run_in([tmp_path], A1)
    assert run and (run.series, run.history) == (SERIES, ROWS)
    assert finished_runs(tmp_path) == [A1]


def test_run_folders_come_before_packed_files_and_own_results_before_published_ones(
    tmp_path: Path,
) -> None:
    pack(tmp_path / "mine", stored(A1, accuracy=1.0), stored(B1, accuracy=2.0))
    pack(tmp_path / "other", stored(B1, accuracy=3.0), stored(C1, accuracy=4.0))
    write_folder(tmp_path / "mine", stored(A1, accuracy=5.0))
    roots = [tmp_path / "mine", tmp_path / "other"]
    found = [record_in(roots, name) for name in (A1, B1, C1, D1)]
    assert [run["accuracy"] if run else None for run in found] == [5.0, 2.0, 4.0, None]
    assert [run["accuracy"] for run in all_records(roots[0])] == [5.0, 2.0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('"accuracy":99.3', '"accuracy":99.4'), r"its checksum is \w{16}, not \w{16}"),
        (('"lr":0.1', '"lr":0.2'), r"its checksum is \w{16}, not \w{16}"),
        ((f'{{"run_id":"{B1}","config"', f'{{"run_id":"{D1}","config"'), "its checksum is"),
        ((f'{{"run_id":"{B1}","config"', f'{{"id":"{B1}","config"'), "it does not begin with run"),
        ((f'"record":{{"schema":1,"run_id":"{B1}"', '"record":{"run_id":"e"'), "its checksum is"),
    ],
)
def test_a_damaged_line_is_named_with_its_file_and_number_and_left_out(
    change: tuple[str, str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pack(tmp_path, *(stored(name) for name in (A1, B1, C1)))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert change[0] in lines[1]
    lines[1] = lines[1].replace(*change)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for _ in range(2):
        assert finished_runs(tmp_path) == [A1, C1] and not is_done(tmp_path, B1)
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"table.jsonl, line 2: damaged record, {problem}", said)
    with pytest.raises(ConfigError, match=f"line 2: damaged record, {problem}"):
        read_lines(path)  # what is published is not left out


def test_a_line_that_was_cut_off_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pack(tmp_path, stored(A1), stored(B1))
    path.write_bytes(path.read_bytes()[:-30])
    assert find_record(A1, tmp_path) and find_record(B1, tmp_path) is None
    assert "line 2: damaged record, it does not end with a check" in capsys.readouterr().err


def test_a_line_with_another_configuration_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / "records" / "t.jsonl", {A1: as_line(stored(A1), {"seed": 2})})
    assert record_in([tmp_path], A1) is None
    assert "its configuration has seed=2, and its record seed=1" in capsys.readouterr().err


def test_only_the_requested_lines_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path, *(stored(run_name(i, "a")) for i in range(20)))
    parsed = []
    read = Place.read
    monkeypatch.setattr(Place, "read", lambda place: parsed.append(place) or read(place))
    source = PackedRecords(tmp_path)
    assert len(list(source.run_ids())) == 20 and not parsed
    assert source.record(A7) == record(A7) and len(parsed) == 1
    assert source.record(B7) is None and source.run(B7) is None and len(parsed) == 1


def test_a_directory_without_packed_files_has_no_runs(tmp_path: Path) -> None:
    assert finished_runs(tmp_path) == [] and not is_done(tmp_path, A1)
    (tmp_path / "records").mkdir()
    assert finished_runs(tmp_path) == [] and list(all_records(tmp_path)) == []


def test_the_documented_way_to_read_a_file_prints_its_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "records.md").read_text(), re.S)
    exec(code, {})
    printed = capsys.readouterr().out
    (name,) = re.findall(r"records/(.*?)\.jsonl", code)
    runs = [run["record"] for run in read_lines(PUBLISHED / "records" / f"{name}.jsonl").values()]
    labels = {run["label"] for run in runs}
    assert len(labels) == 13
    for label in labels:
        values = [run["accuracy"] for run in runs if run["label"] == label]
        ((mean, count),) = re.findall(rf"^{re.escape(label)} +(\S+) +\S+ +(\d+)$", printed, re.M)
        assert float(mean) == pytest.approx(statistics.fmean(values), abs=1e-5)
        assert int(count) == len(values)
