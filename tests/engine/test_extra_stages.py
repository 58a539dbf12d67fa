"""Measurements beside a run (`Stage.extra`): they change neither its identity nor its results."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from support import COMPOSER, compose_run, machine, perform_run

from runner.config.build import build_plain
from runner.engine.record import comparable
from runner.errors import ConfigError
from runner.records.find import is_done, state
from runner.records.folders import RunFolders, record_path, write_record
from runner.records.stored import StoredRun
from runner.records.wanted import NOTHING, Wanted
from runner.spec.identity import identify
from runner.spec.planned import plan_run
from runner.spec.run import Run

WORDS = ("method=snip", "density=0.5", "source.batch_size=32", *SMALL)
NONE, AUTO, NUMBER = "method.overlap=null", "method.overlap=auto", "method.overlap=16"


def done(run: Run, folder: Path) -> dict[str, Any]:
    where = machine(folder)
    record, _ = perform_run(run, where)
    write_record(record_path(where.results_dir, record["run_id"]), record)  # type: ignore[arg-type]
    return record


def test_the_run_and_its_other_stages_have_the_same_identity() -> None:
    without, auto, number = (identify(compose_run(*WORDS, each)) for each in (NONE, AUTO, NUMBER))
    assert without.run_id == auto.run_id == number.run_id
    assert auto.keys == number.keys
    extra = auto.keys.keys() - without.keys.keys()
    assert extra == {"mask_overlap"}
    assert {name: key for name, key in auto.keys.items() if name not in extra} == without.keys
    more = identify(compose_run(*WORDS, "method.overlap=8"))
    assert more.run_id == auto.run_id
    assert more.keys["mask_overlap"] != auto.keys["mask_overlap"]


def test_a_stage_with_another_identity_is_part_of_the_run() -> None:
    run = compose_run(*WORDS, AUTO)
    within = tuple(replace(stage, extra=False) for stage in run.stages)
    assert identify(replace(run, stages=within)).run_id != identify(run).run_id


def test_the_results_are_the_same_and_the_cost_is_not_counted(tmp_path: Path) -> None:
    records = [done(compose_run(*WORDS, each), tmp_path / each) for each in (NONE, NUMBER)]
    plain: Any = [comparable(each) for each in records]  # type: ignore[arg-type]
    without, measured = plain
    assert measured["report"].pop("mask_overlap") > 0.3
    report = {
        name: value
        for name, value in measured["report"].items()
        if not name.startswith("mask_overlap")
    }
    stages = [each for each in measured["stages"] if each["name"] != "mask_overlap"]
    assert {**measured, "report": report, "stages": stages} == without
    seconds = {stage["name"]: stage["seconds"] for stage in records[1]["stages"]}
    own = sum(each for name, each in seconds.items() if name != "mask_overlap")
    assert records[1]["runtime_s"] == pytest.approx(own, abs=0.002)


def test_a_finished_run_is_measured_on_request_alone(tmp_path: Path) -> None:
    where, runs = machine(tmp_path), {e: compose_run(*WORDS, e) for e in (NONE, AUTO, NUMBER)}
    name = done(runs[NONE], tmp_path)["run_id"]
    wanted = {each: Wanted.of(run, predictions=False) for each, run in runs.items()}
    assert wanted[NONE] == wanted[AUTO] == NOTHING
    assert wanted[NUMBER] == Wanted(stages=plan_run(runs[NUMBER]).required)
    before = RunFolders(where.results_dir).run(name)
    assert before and wanted[AUTO].complete(before) and not wanted[NUMBER].complete(before)
    assert is_done(where.results_dir, name, wanted[AUTO])
    assert not is_done(where.results_dir, name, wanted[NUMBER])
    assert state(where.results_dir, name, wanted[NUMBER]) not in ("done", "diverged")
    record = done(runs[NUMBER], tmp_path)
    assert record["run_id"] == name
    assert {stage["name"] for stage in record["stages"] if not stage["cached"]} == {"mask_overlap"}
    for each in wanted.values():
        assert is_done(where.results_dir, name, each)


def test_a_run_that_diverged_has_all_that_it_can_have(tmp_path: Path) -> None:
    record: Any = done(compose_run(*WORDS, NONE), tmp_path)
    wanted = Wanted.of(compose_run(*WORDS, NUMBER), predictions=False)
    assert not wanted.complete(StoredRun(record))
    assert wanted.complete(StoredRun({**record, "status": "diverged"}))
    assert not wanted.complete(None)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"kind": "measure", "needs": ["mask_overlap"]}, "reads 'mask_overlap', which is extra"),
        ({"kind": "prune", "extra": True}, "extra=true is for stages of kind measure"),
    ],
)
def test_a_run_does_not_depend_on_a_measurement_beside_it(stage: Any, words: str) -> None:
    values = copy.deepcopy(COMPOSER.plain(list(WORDS)))
    values["method"]["stages"].append({"name": "more", **stage})
    with pytest.raises(ConfigError, match=words):
        build_plain(values)


@pytest.mark.parametrize(
    ("method", "parts"),
    [("snip", 16), ("grasp", 16), ("force", 4), ("obd", 16), ("synflow", None), ("random", None)],
)
def test_what_is_measured_by_default(method: str, parts: int | None) -> None:
    run = compose_run(f"method={method}", "density=0.5")
    found = [stage.component.parts for stage in run.stages if stage.extra]
    assert found == ([] if parts is None else [parts])
    assert not Wanted.of(run, predictions=False)
