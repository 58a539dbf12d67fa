"""Runs as rows, grouped by two keys, and the example in cells."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from conftest import ROOT, environment
from rich.console import Console

from runner import load_records
from runner.commands.table import mixed, table
from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.find import all_records
from runner.records.flat import stored_runs
from runner.records.pivot import Spread, in_order, pivot


def run(
    method: str, density: float | None, accuracy: float | None, **more: object
) -> dict[str, object]:
    return {"method": method, "density": density, "accuracy": accuracy, **more}


RUNS = [
    run("snip", 0.1, 90.0),
    run("snip", 0.1, 92.0),
    run("snip", 0.1, None),
    run("snip", 0.5, 95.0),
    run("random", 0.1, 80.0),
]


def test_entries_are_the_mean_the_deviation_and_the_number_of_runs() -> None:
    found = pivot(RUNS, "method", "density", "accuracy")
    spread = found.cells["snip", 0.1]
    assert (spread.mean, spread.runs, len(spread.values)) == (91.0, 3, 2)
    assert spread.deviation == pytest.approx(2**0.5)  # of 90 and 92, with n - 1
    assert str(spread) == "91.00 ± 1.41 (2 of 3)"
    assert str(found).splitlines() == [
        "accuracy: mean ± deviation (n)",
        r"method \ density    0.5        0.1",
        "------------------  ---------  ---------------------",
        "random              –          80.00 (1)",
        "snip                95.00 (1)  91.00 ± 1.41 (2 of 3)",
    ]
    assert (
        str(Spread((), 2)) == "– (0 of 2)" and str(Spread((0.01, 0.03), 2)) == "0.02 ± 0.01414 (2)"
    )
    assert str(Spread((2e15, 4e15), 2)) == "3e+15 ± 1.414e+15 (2)"
    assert in_order({0.1, None, "b", 0.5, "a"}) == [0.5, 0.1, "a", "b", None]


def test_a_mixture_of_settings_in_an_entry_is_named() -> None:
    found = pivot(RUNS, "method", "density", "accuracy")
    plain = [{**each, "train.lr": 0.1, "seed": i} for i, each in enumerate(RUNS)]
    assert mixed(plain, found) == []
    plain[1]["train.lr"] = 0.05
    (note,) = mixed(plain, found)
    assert "train.lr (0.1, 0.05)" in note and "seed" not in note


def test_published_records_are_a_data_frame_with_their_configuration() -> None:
    path = PUBLISHED / "records" / "imc_table14@digits.jsonl"
    frame = load_records(path)
    assert isinstance(frame, pandas.DataFrame) and frame["run_id"].is_unique
    wanted = {r["run_id"]: r for r in all_records(PUBLISHED)}
    assert len(frame) == len(path.read_text().splitlines())
    for row in frame.to_dict("records"):
        record = wanted[row["run_id"]]
        assert row["accuracy"] == record["accuracy"] and row["method"] == record["method"]
        assert row["train.batch_size"] > 0 and row["dataset.name"] == record["dataset"]
    assert not [key for key in frame if key.startswith(("env.", "logger."))]


def test_places_may_be_patterns_folders_and_files(tmp_path: Path) -> None:
    folder = PUBLISHED / "records"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "published").symlink_to(PUBLISHED)
    (tmp_path / "results" / "report.html").write_text("")
    everything = {each.run_id for each in stored_runs(PUBLISHED)}
    assert {each.run_id for each in stored_runs(folder)} == everything
    assert {each.run_id for each in stored_runs(f"{tmp_path}/results/*")} == everything
    with pytest.raises(ConfigError, match="there is no finished run"):
        load_records(tmp_path / "none")


def test_a_table_of_published_runs_agrees_with_their_records(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = PUBLISHED / "records" / "imc_table14@digits.jsonl"
    words = [str(path), "--rows", "method", "--where", "method=wstar"]
    picture = tmp_path / "a.svg"
    assert table([*words, "--columns", "model", "--plot", str(picture)], Console(width=200)) == 0
    printed = capsys.readouterr().out
    values = [e.record["accuracy"] for e in stored_runs(path) if e.record["method"] == "wstar"]
    assert values, printed
    assert f"{statistics.fmean(values):.2f}" in printed and f"({len(values)})" in printed
    assert picture.read_text().startswith("<?xml")
    with pytest.raises(ConfigError, match="metod is not a column.*did you mean 'method'"):
        table([str(path), "--rows", "metod"], Console())
    with pytest.raises(ConfigError, match="no run has it; method is one of"):
        table([str(path), "--where", "method=none"], Console())


def test_the_example_in_cells_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "sweep_as_data_frame.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment(), "MPLBACKEND": "agg", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    frame = load_records(tmp_path / "results")
    assert len(frame) == 12 and set(frame["method"]) == {"snip", "magnitude", "random"}
    assert (tmp_path / "sweep.png").stat().st_size > 0
