"""Records that are not valid are named once and left out, and never stop a reader."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_support import run_name, valid_record
from support import machine
from table_support import console_text, expanded, write
from table_support import record as made

from runner.commands.plan import show_tables
from runner.paths import PUBLISHED
from runner.planning.hours import Team
from runner.records.find import all_records, find_record, finished_runs, is_done, run_in, state
from runner.records.folders import seal
from runner.records.packed import read_lines
from runner.records.read import find_run
from runner.records.valid import problem_of, problem_of_config, stated, stated_in
from runner.report.render import provenance
from runner.tables.render import write_table

CONFIG = """dataset:
  _target_: digits
  name: digits
  size: null
model:
  _target_: mlp
  hidden:
    name: no_model
  name: mlp
method:
  label: SNIP
  stages:
  - name: prune
    kind: prune
  name: snip
density: 0.5
seed: 0
train_fraction: 1.0
"""
Change = dict[str, Any]


def at(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The record with another value at a dotted path; without the field if it is `...`."""
    key, _, rest = path.partition(".")
    if rest:
        return {**record, key: at(record[key], rest, value)}
    return {k: v for k, v in {**record, key: value}.items() if v is not ...}


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("schema", [2, 0, None, "1", ...], "schema"),
        ("run_id", ["other", None, ...], "run_id"),
        ("status", ["running", None], "done or diverged"),
        ("accuracy", [-0.1, 100.1, "90", True, [90], ...], "accuracy"),
        ("val_accuracy", [101], "from 0 to 100"),
        ("density_target", [0, 1.5, -0.5], "above 0 and at most 1"),
        ("density", [-0.1, 1.1, 0.4], "density"),
        ("sparsity", [0.4], "1 - density"),
        ("kept", [11, -1, 4, 5.0], "kept"),
        ("prunable", [4, None, 11], "prunable"),
        ("seed", [1, -1, 0.5], "seed"),
        ("method", ["grasp", None], "method"),
        ("model", ["resnet20"], "model"),
        ("dataset", ["cifar10"], "dataset"),
        ("train_fraction", [0, 2], "train_fraction"),
        ("scale", [0], "scale"),
        ("test_loss", [-1], "test_loss"),
        ("epochs", [-1, 1.5], "epochs"),
        ("report", [None, [], {"a": [1]}], "report"),
        ("flops", [None, {}], "flops"),
        ("flops.nonzero", [11, -1], "nonzero"),
        ("stages", [None, [1], [{}]], "stage"),
        ("provenance", [None, {}, ...], "provenance"),
        ("provenance.threads", [0, None], "threads"),
        ("provenance.numerics", [{"train": "1"}, None], "numerics"),
        ("provenance.finished", [None, ...], "finished"),
        ("provenance.git_sha", [1, ...], "git_sha"),
        ("provenance.versions", [{"torch": 2.1}, ["torch"]], "versions"),
        ("provenance.finished", ["yesterday", "2026-11-28T06:07:40"], "finished"),
        ("accuracy_best", [89.9], "accuracy_best=89.9 is less than accuracy=90.0"),
        ("accuracy_top5", [89.9], "accuracy_top5=89.9 is less than accuracy=90.0"),
        ("provenance.git_dirty", ["no", ...], "git_dirty"),
    ],
)
def test_each_rule_refuses_what_is_outside_it(path: str, values: list[Any], words: str) -> None:
    record = valid_record(0)
    assert problem_of(record, run_name(0)) is None
    for value in values:
        problem = problem_of(at(record, path, value), run_name(0))
        assert problem and words in problem and "\n" not in problem, (value, problem)


def test_what_a_diverged_run_or_a_run_without_a_network_lacks_may_be_null() -> None:
    nothing = dict.fromkeys(
        ("accuracy", "accuracy_best", "accuracy_top5", "test_loss", "density", "sparsity", "kept")
    )
    flops = {"dense": 10, "nonzero": None, "unit": "u"}
    record = valid_record(0, **nothing, flops=flops, status="diverged")
    assert problem_of(record, run_name(0)) is None
    assert "not null" in str(problem_of({**record, "accuracy": 10.0}, run_name(0)))
    name = "snip-mlp-digits-found-s0-0123456789ab"
    assert problem_of({**record, "run_id": name, "density_target": None}, name) is None
    assert problem_of({**record, "density_target": None}, run_name(0))


def test_the_published_records_are_valid() -> None:
    for path in sorted((PUBLISHED / "records").glob("*.jsonl")):
        lines = path.read_bytes().count(b"\n")
        assert len(read_lines(path)) == lines  # read_lines refuses what is not valid


def test_the_settings_of_a_configuration_are_those_of_its_record() -> None:
    found = stated_in(CONFIG)
    assert found == {
        "dataset.name": "digits",
        "model.name": "mlp",
        "method.name": "snip",
        "density": 0.5,
        "seed": 0,
        "train_fraction": 1.0,
    }
    assert problem_of_config(found, valid_record(0)) is None
    for key in found:
        problem = problem_of_config({**found, key: None}, valid_record(0))
        assert problem and f"{key}=None" in problem
    plain = {"dataset": {"name": "digits"}, "model": 3, "seed": 0, "density": None}
    assert stated(plain) == {"dataset.name": "digits", "seed": 0, "density": None}
    assert stated_in("{]") == {} and stated_in("seed: [\ndensity: ${x}\n") == {}


def left(root: Path, seed: int, **files: str | bytes) -> Path:
    """A run's folder with a valid record, and files instead of its own."""
    folder = root / "runs" / run_name(seed)
    folder.mkdir(parents=True)
    own = {"result": json.dumps(valid_record(seed)), "config": CONFIG.replace("0\nt", f"{seed}\nt")}
    names = {"result": "result.json", "config": "config.yaml", "series": "series.json"}
    for key, content in {**own, **files}.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / names.get(key, "metrics.jsonl")).write_bytes(data)
    return folder


WHOLE = json.dumps(valid_record(1))
CASES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "half written": ({"result": WHOLE[:300]}, "no JSON"),
    "empty": ({"result": ""}, "empty"),
    "NaN": ({"result": WHOLE.replace("90.0", "NaN")}, "NaN is not finite"),
    "infinity": ({"result": WHOLE.replace("90.0", "1e999")}, "not finite"),
    "a number of the report": ({"result": WHOLE.replace("1e-300", "-Infinity")}, "-Infinity"),
    "another schema": ({"result": WHOLE.replace('"schema": 1', '"schema": 2')}, "schema=2"),
    "a foreign file": ({"result": '{"name": "x"}'}, "run_id=None"),
    "a list": ({"result": "[]"}, "not the record of a run"),
    "no text": ({"result": b"\xff\xfe\x00"}, "no JSON"),
    "deep": ({"result": "[" * 100_000}, "no JSON"),
    "a surrogate": (
        {"result": json.dumps(seal(valid_record(1, label="\ud800"))).replace("SNIP", "x")[:-3]},
        "no JSON",
    ),
    "half a history": ({"history": '{"stage": "train", "epo'}, "no JSON"),
    "a foreign history": ({"history": "[1]\n"}, "row 1 is not a mapping"),
    "a foreign series": ({"series": '{"a": 1}'}, "series a is not a list of numbers"),
    "text in a series": ({"series": '{"a": [1, 2.5], "b": [1, "2"]}'}, "series b"),
    "null in a series": ({"series": '{"a": [null]}'}, "series a"),
    "a history of text": ({"history": '{"stage": "train", "lr": "0.1"}\n'}, "row 1: lr=0.1"),
    "NaN in a series": ({"series": '{"a": [NaN]}'}, "NaN"),
    "another configuration": ({"config": CONFIG.replace("snip", "grasp")}, "method.name=grasp"),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "all": lambda root: len(list(all_records(root))),
    "ids": lambda root: len(finished_runs(root)),
    "one": lambda root: sum(find_record(run_name(seed), root) is not None for seed in range(3)),
    "figure": lambda root: sum(find_run(run_name(seed), root) is not None for seed in range(3)),
    "done": lambda root: sum(is_done(root, run_name(seed)) for seed in range(3)),
    "state": lambda root: sum(state(root, run_name(seed)) == "done" for seed in range(3)),
    "whole": lambda root: sum(run_in([root], run_name(seed)) is not None for seed in range(3)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_valid_is_named_once_and_left_out_by_every_reader(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, reason = CASES[case]
    left(tmp_path, 0)
    folder = left(tmp_path, 1, **files)
    left(tmp_path, 2)
    assert {name: read(tmp_path) for name, read in READERS.items()} == dict.fromkeys(READERS, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(folder)) and reason in line
    assert line.endswith("; the run counts as not done")


def test_a_sealed_record_with_any_text_is_valid(tmp_path: Path) -> None:
    record = seal(valid_record(0, label="\ud800 κ"))
    left(tmp_path, 0, result=json.dumps(record))
    assert find_record(run_name(0), tmp_path) == record


def test_earlier_records_lack_the_training_cost_and_count_as_null(tmp_path: Path) -> None:
    left(tmp_path, 0)
    left(
        tmp_path, 1, result=json.dumps(seal(valid_record(1, train_flops=7, train_flops_ratio=0.5)))
    )
    early, late = (find_run(run_name(seed), tmp_path) for seed in (0, 1))
    assert early and late and "train_flops" not in early.record
    assert [each.number("train_flops") for each in (early, late)] == [None, 7]
    assert problem_of(valid_record(2, train_flops=-1), run_name(2)) == (
        "train_flops=-1 is not a whole number of 0 or more"
    )


def test_numbers_of_a_history_may_be_missing(tmp_path: Path) -> None:
    rows = [{"stage": "train", "accuracy": 1.0}, {"stage": "train"}]
    left(tmp_path, 0, history="".join(json.dumps(row) + "\n" for row in rows))
    found = find_run(run_name(0), tmp_path)
    assert found and found.numbers("history.accuracy") == [1.0, None]
    assert math.isfinite(found.number("a"))


def test_nothing_that_lies_among_the_records_stops_tables_plans_figures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (files, _) in enumerate(CASES.values(), 1):
        left(tmp_path, seed, **files)
    table, place = expanded(1, "@digits", models=["resnet20"], seeds=["0"]), machine(tmp_path, "")
    jobs = [job for job in table.jobs if job.outline.density != 1]
    write(tmp_path, *(made(job, 10.0 + i) for i, job in enumerate(jobs)))
    text = write_table(table, tmp_path)
    plan = console_text(lambda console: show_tables([table], place, Team(1), console))
    for job, content in zip(jobs, CASES.values(), strict=False):
        whole = content[0].get("result")
        if whole is not None:
            path = tmp_path / "runs" / job.run_id / "result.json"
            path.write_bytes(whole if isinstance(whole, bytes) else whole.encode())
    assert write_table(table, tmp_path) != text
    again = console_text(lambda console: show_tables([table], place, Team(1), console))
    assert "done" in plan and "to do" in again
    assert any("runs" in sentence for sentence in provenance([tmp_path]))
    assert all(line.endswith("as not done") for line in capsys.readouterr().err.splitlines())
