"""A run with numbers that are not finite has the status `diverged` and no result."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from support import compose_run, machine, needed
from torch import Generator

from runner.commands.run import run_config
from runner.config.compose import compose_config, method_names
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.machine import Machine
from runner.engine.record import comparable
from runner.engine.stages import stored_meta
from runner.engine.store import Artefact, Store
from runner.engine.ticket import load_ticket
from runner.spec.findings import is_diverged
from runner.spec.identity import run_id
from runner.spec.run import Run

MLP = ["dataset=digits", "model=mlp", "train.scale=0.0125", "train_fraction=0.1"]
RESULTS = (
    "accuracy",
    "accuracy_best",
    "accuracy_top5",
    "test_loss",
    "val_accuracy",
    "density",
    "sparsity",
    "kept",
)


def density_of(name: str) -> list[str]:
    refused = compose_config([f"method={name}", *MLP]).method.density == "refused"
    return [] if refused else ["density=0.3"]


def performed(run: Run, where: Machine) -> dict[str, Any]:
    """The record of a run, executed in this process."""
    watcher = Watcher(where.results_dir / "run", display("none", Console()), {})
    return perform(RunContext(run, where, Store(where.cache_dir), watcher), run_id(run))


@pytest.mark.parametrize("name", method_names())
def test_every_method_on_a_diverging_training_gives_status_diverged_and_no_accuracy(
    name: str, tmp_path: Path
) -> None:
    words = [f"method={name}", *density_of(name), *MLP]
    run = compose_run(*words, "train.lr=1e30", *needed(tmp_path, *words))
    record = performed(run, machine(tmp_path))
    assert record["status"] == "diverged" and is_diverged(record)
    assert [record[key] for key in RESULTS] == [None] * len(RESULTS)
    first = next(stage.name for stage in run.stages if stage.recipe)
    assert (record["report"]["diverged_stage"], record["report"]["diverged_epoch"]) == (first, 1)
    # GMP ranks the weights within the epoch, before the loss of that epoch is known.
    within = "the weights or the gradients have overflowed" if name == "gmp" else None
    assert record["report"]["diverged_what"].endswith(within or " loss is not finite")
    # the run ends there, and a run that shares the stage reads this from the cache
    assert record["stages"][-1]["name"] == first
    again = performed(run, machine(tmp_path))
    assert all(stage["cached"] for stage in again["stages"])
    assert comparable(again) == comparable(record)


@pytest.mark.parametrize("name", ["sr_popup", "edge_popup", "zhou"])
def test_a_search_whose_scores_overflow_on_a_finite_network_diverges(
    name: str, tmp_path: Path
) -> None:
    model = compose_run("method=dense", *MLP).model(1, 10, 8, Generator().manual_seed(1))
    large = {name: 100 * tensor for name, tensor in model.state_dict().items()}
    save_file(large, tmp_path / "net.safetensors")
    run = compose_run(
        f"method={name}",
        "density=0.3",
        *MLP,
        f"start.weights={tmp_path / 'net.safetensors'}",
        "method.lr=1e38",
    )
    record = performed(run, machine(tmp_path))
    assert record["status"] == "diverged", record["report"]
    assert record["report"]["diverged_stage"] == "search"


def test_a_loaded_weight_that_is_not_finite_is_refused_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.safetensors"
    state = compose_run("method=dense", *MLP).model(1, 10, 8, Generator()).state_dict()
    state["fc2.weight"][0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    save_file(state, file)
    dirs = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    words = ["method=magnitude", "density=0.3", "start=dense", "retrain=finetune", *MLP, *dirs]
    assert run_config(compose_config([*words, f"start.weights={file}"])) == 2
    message = capsys.readouterr().err
    assert f"start.weights={file}: 3 of " in message
    assert "numbers in fc2.weight are not finite" in message
    assert not (tmp_path / "results" / "runs").exists()  # nothing was computed
    # too large for the network's float32
    state["fc2.weight"] = torch.full_like(state["fc2.weight"], 1e200, dtype=torch.float64)
    save_file(state, file)
    assert run_config(compose_config([*words, f"start.weights={file}"])) == 2


def test_a_stage_stored_by_older_code_is_checked_when_it_is_read(tmp_path: Path) -> None:
    row = {"epoch": 1, "train_loss": 1.0, "test_loss": 1.0, "accuracy": 9.0}
    meta = {"seconds": 1.0, "epochs": 1, "report": {}}
    store = Store(tmp_path)
    store.save("fine", Artefact({"w": torch.ones(2)}, meta={**meta, "history": [row]}))
    store.save("nan", Artefact({"w": torch.tensor([torch.nan])}, meta={**meta, "history": [row]}))
    untested = {**row, "test_loss": None}
    store.save("loss", Artefact({"w": torch.ones(2)}, meta={**meta, "history": [untested]}))
    found = {key: stored_meta(store, key)["divergence"] for key in ("fine", "nan", "loss")}
    assert found == {
        "fine": None,
        "nan": {"what": "1 of 1 numbers in w are not finite", "epoch": 1},
        "loss": {"what": "the test loss is not finite", "epoch": 1},
    }


def test_the_command_succeeds_and_its_summary_says_where_and_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dirs = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    words = ["method=obd", "density=0.3", *MLP, "train.lr=1e30", "env.progress=none", *dirs]
    assert run_config(compose_config(words)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "DIVERGED stage dense, epoch 1: the training loss is not finite" in shown
    assert "a smaller train.lr" in shown and "none: the run diverged" in shown
    (path,) = tmp_path.glob("results/runs/*/result.json")
    assert json.loads(path.read_text())["status"] == "diverged"
    assert json.loads(path.with_name("status.json").read_text())["status"] == "diverged"
    with pytest.raises(FileNotFoundError, match="diverged, so it has no network"):
        load_ticket(path.parent.name, tmp_path / "results", tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"status": "diverged", "accuracy": None, "test_loss": None}, True),
        ({"report": {"diverged_train": 3}}, True),  # records before version 0.2.0
        ({"test_loss": None}, True),
        ({"accuracy": None, "test_loss": None}, False),  # a run that only measures
        ({"report": {"diverged": 0}}, False),  # a theory experiment's count
    ],
)
def test_older_records_of_diverged_runs_are_recognized(
    changes: dict[str, Any], expected: bool
) -> None:
    record = {"status": "done", "accuracy": 50.0, "test_loss": 1.0, "report": {}}
    assert is_diverged({**record, **changes}) is expected
