"""Measurements beside a run (`Stage.extra`): they change neither its identity nor its results, and
their failure does not end it."""

import builtins
import copy
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import SMALL
from rich.console import Console
from support import COMPOSER, compose_run, machine

from pruners.base import Measurement
from runner.config.build import build_plain
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.record import comparable
from runner.engine.store import Store
from runner.errors import ConfigError
from runner.records.find import is_done, state
from runner.records.folders import RECORD, RunFolders, record_path, write_record
from runner.records.stored import StoredRun
from runner.records.wanted import NOTHING, Wanted
from runner.spec.identity import identify, run_id
from runner.spec.planned import plan_run
from runner.spec.run import Run

Command = Callable[..., "subprocess.CompletedProcess[str]"]
WORDS = ("method=snip", "density=0.5", "source.batch_size=32", *SMALL)
NONE, AUTO, NUMBER = "method.overlap=null", "method.overlap=auto", "method.overlap=16"


def done(run: Run, folder: Path) -> dict[str, Any]:
    where, identity = machine(folder), run_id(run)
    path = record_path(where.results_dir, identity)
    watcher = Watcher(path.parent, display("none", Console()), {})
    record = perform(RunContext(run, where, Store(where.cache_dir), watcher), identity)
    write_record(path, record)
    return dict(record)


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


# --- measurements that fail


@dataclass(frozen=True)
class Failing:
    """A measurement that raises an error, and is optional as `method.overlap=auto` is."""

    tag: ClassVar[str] = "failing"
    error: str = "ZeroDivisionError"
    optional: bool = True
    applies: ClassVar[bool] = True

    def __call__(self, *arguments: Any) -> Any:
        """Fail."""
        raise getattr(builtins, self.error)("no such number")


@dataclass(frozen=True)
class NotFinite(Failing):
    """A measurement with a tensor that is not finite."""

    tag: ClassVar[str] = "not_finite"

    def __call__(self, *arguments: Any) -> Measurement:
        """One NaN."""
        return Measurement(report={"own": 1.0}, tensors={"own": torch.tensor([torch.nan])})


def failing(component: Failing) -> Run:
    """A run whose measurement beside it is `component`; the training follows it."""
    run = compose_run(*WORDS, AUTO)
    stages = [replace(s, component=component) if s.extra else s for s in run.stages]
    assert [stage.name for stage in stages].index("mask_overlap") < len(stages) - 1
    return replace(run, stages=tuple(stages))


def without_measurement(record: Any) -> dict[str, Any]:
    plain: Any = comparable(record)
    stages = [stage for stage in plain["stages"] if stage["name"] != "mask_overlap"]
    return {**plain, "stages": stages}


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Failing(), "failed and is left out: ZeroDivisionError: no such number"),
        (Failing("MemoryError"), "failed and is left out: out of memory: no such number"),
        (Failing("FloatingPointError"), "has no result: no such number"),
        (NotFinite(), "has no result: 1 of 1 numbers in own are not finite"),
    ],
    ids=["error", "memory", "diverged", "not-finite"],
)
def test_a_failure_does_not_end_the_run(
    component: Failing, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = failing(component)
    undisturbed = done(compose_run(*WORDS, NONE), tmp_path / "undisturbed")
    record = done(run, tmp_path)
    assert record["status"] == "done"
    assert without_measurement(record) == without_measurement(undisturbed)
    assert f"note: the measurement mask_overlap {message}" in capsys.readouterr().err
    where = machine(tmp_path)
    assert is_done(where.results_dir, record["run_id"], Wanted.of(run, predictions=False))


BROKEN = {
    "broken.py": '''"""A measurement that fails until a file is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from pruners.base import Masks, Measurement, Task


@dataclass(frozen=True)
class Broken:
    """One, once the file `mended` is in the working directory."""

    tag: ClassVar[str] = "broken"

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Fail without the file."""
        if not Path("mended").exists():
            raise RuntimeError("the file is not there")
        return Measurement(report={"own": 1})
''',
    "conf/method/mine.yaml": """# @package _global_
defaults:
  - magnitude
  - _self_
method:
  name: mine
  label: Mine
  uses: [allocate, pick, schedule, retrain]
  stages:
    - name: prune
      kind: prune
      pruner: ${method.pruner}
    - name: own
      kind: measure
      start: {from: prune}
      measure: {_target_: broken}
      extra: true
    - {name: train, kind: train, masks: prune, start: "${retrain.start}"}
""",
}


def test_a_requested_measurement_that_fails_leaves_the_record_and_fails_the_command(
    tmp_path: Path, command: Command
) -> None:
    for name, text in BROKEN.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    words = ["--config-dir", str(tmp_path / "mine" / "conf"), "method=mine", "density=0.5", *SMALL]
    failed = command(*words)
    assert failed.returncode == 1, failed.stderr
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert f"failed: {folder.name} is done without own" in failed.stderr
    assert "RuntimeError: the file is not there" in (folder / "traceback.txt").read_text()
    before = json.loads((folder / RECORD).read_text())
    assert before["status"] == "done" and before["accuracy"] is not None
    (tmp_path / "mended").touch()
    again = command(*words)
    assert again.returncode == 0, again.stderr
    after = json.loads((folder / RECORD).read_text())
    assert after["report"]["own"] == 1 and not (folder / "traceback.txt").exists()
    assert [stage["name"] for stage in after["stages"] if not stage["cached"]] == ["own"]
    assert after["accuracy"] == before["accuracy"]
