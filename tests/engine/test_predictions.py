"""env.save_predictions: the predictions have the record's accuracy, and nothing else changes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from support import compose_run, machine, perform_run

from runner.engine.record import comparable
from runner.records.find import is_done, state
from runner.records.folders import RunFolders, record_path, write_record
from runner.records.predictions import LABELS, PREDICTIONS, without_predictions
from runner.records.wanted import NOTHING, Wanted
from runner.spec.run import Run

SAVED = Wanted(predictions=True)


def done(run: Run, folder: Path, saves: bool) -> str:
    """Execute a run and write its record; its id."""
    where = replace(machine(folder), save_predictions=saves)
    record, _ = perform_run(run, where)
    write_record(record_path(where.results_dir, record["run_id"]), record)
    return str(record["run_id"])


@pytest.mark.parametrize("method", ["dense", "snip", "edge_popup"])
def test_saved_predictions_have_the_accuracy_of_the_record(method: str, tmp_path: Path) -> None:
    words = [] if method == "dense" else ["density=0.5"]
    run = compose_run(f"method={method}", *words, *SMALL)
    name = done(run, tmp_path, saves=False)
    folders = RunFolders(tmp_path / "results")
    before = folders.run(name)
    assert before and not before.series.keys() & {LABELS, PREDICTIONS}
    assert NOTHING.complete(before) and not SAVED.complete(before)
    assert is_done(tmp_path / "results", name) and not is_done(tmp_path / "results", name, SAVED)
    assert state(tmp_path / "results", name, SAVED) != "done"
    assert done(run, tmp_path, saves=True) == name
    after = folders.run(name)
    assert after and comparable(after.record) == comparable(before.record)
    assert all(stage["cached"] for stage in after.record["stages"])
    right = np.equal(after.series[LABELS], after.series[PREDICTIONS])
    assert len(right) == 360 and 100 * right.mean() == pytest.approx(after.record["accuracy"])
    assert is_done(tmp_path / "results", name, SAVED)
    assert without_predictions(after.series) == before.series


def test_predictions_are_sealed(tmp_path: Path) -> None:
    name = done(compose_run("method=dense", *SMALL), tmp_path, saves=True)
    path = record_path(tmp_path / "results", name).with_name("series.json")
    series = json.loads(path.read_text())
    series[PREDICTIONS][0] = (series[PREDICTIONS][0] + 1) % 10
    path.write_text(json.dumps(series, indent=1) + "\n")
    assert RunFolders(tmp_path / "results").run(name) is None


def test_a_run_without_an_accuracy_is_done_without_predictions(tmp_path: Path) -> None:
    run = compose_run(
        "method=theory/sketching",
        "dataset=gaussian_teacher",
        "model=student",
        "method.draws=[20]",
        "method.repeats=40",
    )
    name = done(run, tmp_path, saves=True)
    assert is_done(tmp_path / "results", name, SAVED)
