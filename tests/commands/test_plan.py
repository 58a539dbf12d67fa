"""Plans of tables and sweeps agree with hand counts, real runs and Hydra's own composition."""

import gc
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, SMALL, environment, last_of_each
from forked import start_unread
from omegaconf import OmegaConf
from rich.console import Console
from support import COMPOSER, compose_run, compose_run_in_full, machine, perform_run
from table_support import console_text

import runner.config.compose
import runner.config.overrides
from pruners.curvature.hessian import HessianOperator
from runner.bench.planning import make_tables, measure
from runner.commands.plan import show_plan
from runner.commands.run import run_config
from runner.config.build import build_plain
from runner.config.compose import Composer, compose_config, method_names
from runner.config.interpolation import resolve
from runner.data.counts import training_images
from runner.data.digits import Digits
from runner.display.sizes import readable
from runner.engine.store import Store
from runner.entry import guarded
from runner.errors import ConfigError
from runner.launch.jobs import Process
from runner.paths import RUN_PY
from runner.planning.costs import (
    Net,
    measure_net,
    past_rates,
    save_bench,
    shipped_rates,
    stage_cost,
)
from runner.planning.hours import Team
from runner.planning.show import lines, show
from runner.planning.survey import survey
from runner.records.find import state
from runner.records.provenance import device_name
from runner.spec.identity import run_id, stage_keys
from runner.spec.planned import plan_run
from runner.spec.run import snapshots_wanted
from runner.suites.expand import expand, expand_spec
from runner.suites.schema_tables import NetworksTable

Command = Callable[..., subprocess.CompletedProcess[str]]
# 64 x 300 + 300 x 300 + 300 x 10 weights, and 610 biases
MLP = Net(
    parameters=112_810,
    prunable=112_200,
    weight_bytes=451_240,
    parameter_bytes=451_240,
    forward=112_200,
)
DENSE = 2 * 1437 * 3 * 112_200  # multiply-accumulates of two epochs on digits

LINES = [  # command lines, in several orders and notations
    ["method=dense"],
    ["method=imc"],
    ["model=mlp", "method=snip", "density=0.1"],
    ["density=1", "method=magnitude", "model=lenet_300_100", "seed=3"],
    ["method=magnitude", "density=1e-1", "start=dense", "retrain=finetune", "train.lr=1"],
    ["method=random", "start=dense", "density=0.5", "retrain=reinit", "allocate=layer"],
    ["method=random", "start=dense", "density=0.5", "retrain.rewind=20ep"],
    [
        "method=imc",
        "retrain=finetune",
        "density=0.53",
        "method.gap.sigma2=2.0e-5",
        "dataset=cifar10",
        "train=imc",
        "model=resnet20_w32",
    ],
    [
        "method=imc",
        "density=null",
        "method.wstar.epochs=20",
        "train.scale=1",
        "train.precision=bf16",
    ],
    [
        "dataset=cifar100",
        "dataset.augment=none",
        "model.width=8",
        "train_fraction=0.1",
        "method=dense",
        "dataset.validation=0.1",
    ],
    ["model=mlp", "model.hidden=[20,30]", "method=dense", "train.lr_schedule=cosine"],
    [
        "method=snip",
        "density=0.25",
        "method.score.batches=2",
        "source.batch_size=64",
        "pick=top",
        "train=quick",
        "train.epochs=20",
    ],
    ["method=dense", "env.threads=1", "env.device=cpu", "logger=none"],
    ["method=dense", "seed=2", "density=null"],
    # the last wins
    [
        "method=dense",
        "method=snip",
        "dataset=mnist",
        "dataset=digits",
        "density=0.5",
        "density=0.25",
    ],
    ["method=snip", "density=abc"],
    ["method=snip", "density=1.5"],
    ["method=snip", "density=..5"],
    ["method=snpi"],
    ["dataset=digit", "method=dense"],
    ["method=dense", "train.momentun=0.9"],
    ["method=dense", "train.epochs=many"],
    ["method=dense", "+colour=red"],
]


def run_or_errors(make: Callable[[], Any]) -> Any:
    """A run with its identity, or the messages of its error."""
    try:
        run = make()
    except ConfigError as error:
        return error.messages
    return run, run_id(run), stage_keys(run)


# --- expansion


def test_a_composer_gives_the_same_runs_and_errors_as_full_composition() -> None:
    composer = Composer()
    full = [
        run_or_errors(lambda overrides=overrides: compose_run_in_full(*overrides))
        for overrides in LINES
    ]
    assert (
        sum(
            isinstance(item, tuple) and len(item) == 3 and not isinstance(item[0], str)
            for item in full
        )
        == 15
    )
    # an earlier line does not affect a later one
    for round_ in (range(len(LINES)), reversed(range(len(LINES)))):
        for i in round_:
            assert run_or_errors(lambda i=i: build_plain(composer.plain(LINES[i]))) == full[i], (
                LINES[i]
            )


@pytest.mark.parametrize("name", ["imc_table01", "imc_table01@digits", "imc_table01@fashion_mnist"])
def test_the_commands_of_a_table_compose_its_runs(name: str) -> None:
    table = expand(
        name, {"seeds": ["0", "7"]}, ["train.scale=0.5", "method.gap.sigma2=2.0e-5"], COMPOSER
    )
    for job in table.jobs[1::3]:
        run = compose_run_in_full(*job.overrides)
        assert (run, run_id(run), stage_keys(run)) == (job.run, job.run_id, job.keys)


def test_densities_and_seeds_require_no_further_composition() -> None:
    few, many = Composer(), Composer()
    spec = expand("imc_table01", {}, [], few).spec
    assert isinstance(spec, NetworksTable)
    rows = tuple(
        replace(row, label=f"{row.label} {i}", density=(0.9 - i / 50,) * 2)
        for row in spec.rows
        if row.density
        for i in range(20)
    )
    table = expand_spec(
        replace(spec, rows=rows, seeds=tuple(range(10))), "imc_table01", {}, [], many
    )
    exist = [
        row
        for row in spec.rows
        if row.density and row.overrides[0].removeprefix("method=") in method_names()
    ]
    # SNIP, sanity-check, three rows of IMC
    assert len({job.run_id for job in table.jobs}) == 2 * 20 * 10 * len(exist) and len(exist) >= 5
    assert len(many.bases) < len(few.bases)  # one less, because the baseline has no density
    for job in (table.jobs[0], table.jobs[777], table.jobs[-1]):
        assert compose_run_in_full(*job.overrides) == job.run


def test_options_that_depend_on_the_seed_are_built_for_each_seed() -> None:
    table = expand(
        "imc_table01@digits",
        {"models": ["resnet20"], "seeds": ["4", "5"]},
        ["train.batch_size=${seed}"],
        COMPOSER,
    )
    cell = table.cells["Baseline", "ResNet-20"]
    assert [
        job.run.stages[0].recipe.batch_size for job in cell.jobs if job.run.stages[0].recipe
    ] == [4, 5]


def test_references_are_resolved_as_by_omegaconf() -> None:
    for overrides in LINES[:12]:
        cfg = compose_config(overrides)
        whole: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)
        raw: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)
        assert resolve(raw).values == {
            key: value for key, value in whole.items() if key not in ("env", "logger")
        }
    for odd in (
        {"a": "x${b}\\${b}", "b": 1},
        {"a": "${.b}", "b": 2},
        {"a": "${oc.decode:'[1, 2]'}"},
        {"a": "${b.1}", "b": [1, 2]},
        {"a": "${b}-${b}", "b": None},
    ):
        assert resolve(odd).values == OmegaConf.to_container(OmegaConf.create(odd), resolve=True)
    with pytest.raises(ConfigError, match="nowhere"):
        resolve({"a": "${nowhere}"})


def test_a_group_that_another_file_overrides_is_composed_with_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Composer().apart == {"dataset", "model", "train"}
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.setattr(runner.config.compose, "CONF", tmp_path / "conf")
    monkeypatch.setattr(runner.config.overrides, "CONF", tmp_path / "conf")
    path = tmp_path / "conf" / "method" / "dense.yaml"
    path.write_text(path.read_text() + "train:\n  epochs: 80\n")
    assert Composer().apart == {"dataset", "model"}
    overrides = ["method=dense", "train=imc"]
    full = compose_run_in_full(*overrides)
    assert full.stages[0].recipe and full.stages[0].recipe.epochs == 80
    assert build_plain(Composer().plain(overrides)) == full


# --- work


def test_the_sizes_of_a_net_are_those_of_the_built_net() -> None:
    run = compose_run("method=dense", "model=mlp")
    assert measure_net(run.dataset, run.model) == MLP
    resnet = compose_run("method=dense", "model=resnet20")
    net = measure_net(resnet.dataset, resnet.model)
    assert (net.prunable, net.forward) == (270_608, 2_532_992)  # as in all published records
    made = resnet.model(1, 10, 8, torch.Generator())
    assert net.parameters == sum(p.numel() for p in made.parameters())
    assert net.weight_bytes == sum(t.nbytes for t in made.state_dict().values())


@pytest.mark.parametrize(
    ("fraction", "held_out"), list(itertools.product((1.0, 0.5, 0.1, 0.0777), (0.0, 0.1, 0.25)))
)
def test_the_planned_number_of_training_images_is_the_loaded_number(
    fraction: float, held_out: float, tmp_path: Path
) -> None:
    assert training_images(1437, fraction, held_out) == len(
        Digits(validation=held_out).load(tmp_path, fraction).train
    )


def test_images_and_multiply_accumulates_of_a_training_agree_with_hand_counts() -> None:
    run = compose_run("method=dense", *SMALL)  # two epochs of 160 x 0.0125
    cost = stage_cost(run, run.stages[0], MLP, 0)
    assert (cost.images, cost.macs) == (2_874, DENSE) and DENSE == 967_388_400
    assert cost.bytes == 451_240 + 112_200 + 451_240  # weights, masks, momentum
    tenth = compose_run(
        "method=dense", *SMALL, "train_fraction=0.1", "dataset.validation=0.1", "train.momentum=0"
    )
    cost = stage_cost(tenth, tenth.stages[0], MLP, 2)
    assert cost.images == 2 * (144 - 14)
    assert cost.bytes == 3 * 451_240 + 112_200  # two snapshots, no momentum


MEASURES = [
    ["method.spectrum.steps=4", "method.spectrum.probes=3"],
    [
        "method.spectrum.steps=4",
        "method.spectrum.probes=3",
        "method.mask.rule=projected_weight",
        "method.lipschitz.V=box",
    ],
    [
        "method.spectrum.estimator=lanczos_extremes",
        "method.spectrum.steps=5",
        "method.lipschitz.estimator=hessian_diff",
        "method.lipschitz.V=init",
    ],
    [
        "method.spectrum.estimator=diag",
        "method.spectrum.probes=3",
        "method.hessian.params=all",
        "method.lipschitz.estimator=const",
    ],
    ["method.spectrum.estimator=dense", "model.hidden=[2]"],
]


@pytest.mark.parametrize("overrides", MEASURES, ids=lambda overrides: overrides[0])
def test_plans_predict_products_gradients_and_bytes_of_measurements(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose_run(
        "method=imc",
        *SMALL,
        "density=0.5",
        "method.hessian.n_samples=64",
        "method.lipschitz.directions=2",
        *overrides,
    )
    count = {"gradients": 0, "products": 0}

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: HessianOperator, *args: Any) -> Any:
            count[name] += 1
            return inner(self, *args)

        return call

    monkeypatch.setattr(HessianOperator, "matvec", counted("products", HessianOperator.matvec))
    # a gradient moves the weights to a point and back
    monkeypatch.setattr(HessianOperator, "_move", counted("gradients", HessianOperator._move))
    where = machine(tmp_path)
    perform_run(run, where)
    net, costs = measure_net(run.dataset, run.model), {}
    for stage in run.stages[1:3]:
        costs[stage.name] = stage_cost(run, stage, net, 0)
        size = sum(
            path.stat().st_size
            for path in (
                Store(where.cache_dir).path(stage_keys(run)[stage.name]).glob("*.safetensors")
            )
        )
        # the file also has a header with the names
        assert costs[stage.name].bytes <= size < costs[stage.name].bytes + 2_000
    lipschitz, spectrum = costs["lipschitz"], costs["spectrum"]
    assert lipschitz.products + spectrum.products == count["products"]
    assert spectrum.images == 64 * spectrum.products
    assert spectrum.macs == 6 * spectrum.images * net.forward
    if not lipschitz.products:  # a gradient costs three forward passes
        assert lipschitz.passes == 3 * lipschitz.images
        assert lipschitz.images == 64 * count["gradients"] // 2


def test_plans_predict_the_bytes_that_a_run_writes_to_the_cache(tmp_path: Path) -> None:
    run = compose_run("method=magnitude", "density=0.5", "start=dense", "retrain=rewind", *SMALL)
    where = machine(tmp_path)
    assert snapshots_wanted(run) == {"dense": {1}}
    foreseen = {
        key: item.cost.bytes for key, item in survey([(plan_run(run), where)]).needed.items()
    }
    perform_run(run, where)
    for key, size in foreseen.items():
        files = list(Store(where.cache_dir).path(key).glob("*.safetensors"))
        # each file also has a header
        assert size < sum(path.stat().st_size for path in files) < size + 1000 * len(files)
    assert readable(sum(foreseen.values())) == "3.0 MB"  # 1,465,920 + 563,440 + 1,014,680


# --- states of runs


def test_states_of_runs_are_read_from_records_status_files_and_locks(
    dirs: list[str], tmp_path: Path
) -> None:
    where = machine(tmp_path)
    done, failing, long, new = [
        ["method=dense", *SMALL, "seed=3"],
        ["method=imc", *SMALL, "method.gap.rule=literal"],
        ["method=dense", *SMALL, "train.scale=1000"],
        ["method=dense", *SMALL],
    ]
    assert [run_config(compose_config([*overrides, *dirs])) for overrides in (done, failing)] == [
        0,
        1,
    ]
    runs = [compose_run(*overrides) for overrides in (done, failing, long, new)]
    identity = run_id(runs[2])

    def states() -> list[str]:
        return list(survey([(plan_run(run), where) for run in runs]).states.values())

    for number, ends in ((signal.SIGKILL, "interrupted"), (signal.SIGTERM, "stopped")):
        process = start_unread(RUN_PY, [*last_of_each(*long), *dirs], tmp_path, environment())
        metrics = tmp_path / "results" / "runs" / identity / "metrics.jsonl"
        metrics.unlink(missing_ok=True)
        _wait(lambda path=metrics: path.is_file() and path.stat().st_size > 0, process)
        assert states() == ["done", "failed", "running", "new"]
        process.send_signal(number)
        process.wait()
        assert states() == ["done", "failed", ends, "new"]
    text = console_text(lambda console: show([(plan_run(run), where) for run in runs], 1, console))
    assert "runs: 4; done 1, running 0, to do 3 (failed 1, stopped 1, new 1)\n" in text
    assert f"failed: {tmp_path / 'results' / 'runs' / run_id(runs[1]) / 'traceback.txt'}\n" in text
    assert state(where.results_dir, "no-such-run") == "new"
    # the query creates no folder
    assert not (tmp_path / "results" / "runs" / run_id(runs[3])).exists()


def _wait(ready: Callable[[], bool], process: Process) -> None:
    start = time.monotonic()
    while not ready():
        assert process.poll() is None and time.monotonic() - start < 120
        time.sleep(0.05)


def test_the_plan_of_a_sweep_counts_shared_stages_once_and_omits_finished_ones(
    command: Command, tmp_path: Path
) -> None:
    sweep = [
        "-m",
        "method=random,magnitude",
        "density=0.5",
        "start=dense",
        "seed=0,1",
        *SMALL,
        "env.plan=true",
    ]
    first = command(*sweep, "hydra/launcher=gpu_queue")  # a plan ignores the launcher
    assert first.returncode == 0, first.stderr
    # Each run trains two epochs dense and two after pruning. Both methods share the dense net of a
    # seed: 4 x 4 requested, 2 x 2 + 4 x 2 needed.
    assert [line for line in first.stdout.splitlines() if line.startswith("epochs:")] == [
        "epochs: asked 16, needed 12"
    ]
    assert "runs: 4; done 0, running 0, to do 4\n" in first.stdout
    assert "stages: 12 in all runs, 10 different, 2 shared by several runs\n" in first.stdout
    assert f"images: {12 * 1437:,} to train on, 0 to measure on\n" in first.stdout
    assert "not counted: evaluation, magnitude's prune, random's prune\n" in first.stdout
    assert "time: about " in first.stdout
    assert (
        ", published with this repository; run make bench to measure this machine,"
        " or state a card: card=h200)\n" in first.stdout
    )
    assert not (tmp_path / "cache" / "stages").exists()
    assert not list(tmp_path.glob("results/runs/*"))
    where = machine(tmp_path)
    run = compose_run("method=magnitude", "density=0.5", "start=dense", *SMALL)
    record, _ = perform_run(run, where)
    (tmp_path / "results" / "runs" / run_id(run) / "result.json").write_text(json.dumps(record))
    jobs = [
        plan_run(
            compose_run(f"method={name}", "density=0.5", "start=dense", f"seed={seed}", *SMALL)
        )
        for name in ("random", "magnitude")
        for seed in (0, 1)
    ]
    again = console_text(lambda console: show([(job, where) for job in jobs], 1, console))
    # magnitude of seed 0 is done, and random uses its dense net: 2; seed 1 is new: 2 + 2 + 2
    assert "epochs: asked 16, needed 8\n" in again and "done 1, running 0, to do 3\n" in again
    assert survey([(plan_run(run), where)]).line == "epochs: asked 4, needed 0"


def test_an_invalid_job_of_a_planned_sweep_gives_an_error_and_exit_code_2(command: Command) -> None:
    done = command("-m", "method=snip", "density=0.5,1e-6", *SMALL, "env.plan=true")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "keeps none of 112,200" in done.stderr
    assert "epochs: asked 2, needed 2\n" in done.stdout  # of the valid run


def test_the_plan_of_a_table_with_invalid_runs_gives_an_error(
    dirs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["imc_table01@digits", "models=resnet20", "model=lenet5", "train.lr=0.01", *dirs]
    assert guarded(lambda: show_plan(overrides, Console(file=io.StringIO()))) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "dataset.size=32" in error


def test_the_benchmark_plans_and_prints_its_tables(tmp_path: Path) -> None:
    make_tables(tmp_path, 50)
    found = measure(tmp_path)
    assert 0 < found.planned < found.printed and found.peak > 0
    printed = {path.name for path in (tmp_path / "results" / "tables").glob("*.txt")}
    assert printed == {f"table{i:02d}.txt" for i in range(29)}
    text = (tmp_path / "results" / "tables" / "table00.txt").read_text()
    assert "90.00" in text or "91.00" in text  # the accuracies of its records are 90 to 96


# number of densities of a row of imc_table02, and the levels J of its LTH rows, which take J + 1
# trainings
GRID, LEVELS = 10, range(1, 8)
METHOD = {
    "Baseline": "dense",
    "Flow&Prune": "flow_prune",
    "SNIP": "snip",
    "SynFlow": "synflow",
    "GraSP": "grasp",
    "sanity-check": "sanity_check",
}


def epochs_of_table(name: str) -> tuple[int, int]:
    """Requested and needed epochs of a table for a net and a seed, counted by hand.

    The count includes the rows whose method exists: 5,310 and 4,800 for the fourteen of
    imc_table01.
    """
    exists, many = set(method_names()), name == "imc_table02"
    requested = needed = sum(
        160 * (GRID if many and row != "Baseline" else 1)
        for row, method in METHOD.items()
        if method in exists
    )
    if many:
        needed -= GRID - 1  # the first epoch of Flow&Prune precedes pruning and is shared
    # J + 1 trainings; the three variants share the dense net with the baseline, and the stages of a
    # level are a prefix of those of the next
    if "imp" in exists:
        requested += 3 * 160 * (sum(level + 1 for level in LEVELS) if many else 7)
        needed += 3 * 160 * (7 if many else 6)
    if "continuous_sparsification" in exists:  # a search without a density, and a retraining
        requested += (GRID if many else 1) * (160 + 160)
        needed += 160 + (GRID if many else 1) * 160
    # ten epochs to W*, which the rows share, then 160; fine-tuning continues with 150;
    # our row of magnitude has 160 of its own
    return requested + 170 + 170 + 160 + 170, needed + 10 + 160 + 160 + 150 + 160


@pytest.mark.parametrize(
    "names", [["imc_table01"], ["imc_table02"], ["imc_table01", "imc_table02"]], ids=",".join
)
def test_tables_are_planned_without_data_and_missing_methods_are_listed(
    names: list[str], dirs: list[str]
) -> None:
    text = console_text(
        lambda console: show_plan([",".join(names), "models=resnet20", "seeds=0", *dirs], console)
    )
    # the runs of imc_table02 hold out a tenth of the images, so the tables share no stage
    requested, needed = (sum(counts) for counts in zip(*map(epochs_of_table, names), strict=True))
    assert f"epochs: asked {requested}, needed {needed}\n" in text
    assert text.count("epochs: asked") == 1
    assert (
        needed
        <= {"imc_table01": 0.92, "imc_table02": 0.49, "imc_table01,imc_table02": 0.56}[
            ",".join(names)
        ]
        * requested
    )
    images = sum(
        epochs_of_table(name)[1] * (45_000 if name == "imc_table02" else 50_000) for name in names
    )
    assert f"images: {images:,} to train on, " in text
    named = {
        line.removeprefix("missing: method=").removesuffix(" does not exist yet")
        for line in text.splitlines()
        if line.startswith("missing:")
    }
    assert named == {*METHOD.values(), "imp", "continuous_sparsification", "imc"} - set(
        method_names()
    )


def test_shared_measurements_of_a_table_are_counted_once(dirs: list[str]) -> None:
    text = console_text(
        lambda console: show_plan(["imc_table01", "models=resnet20", "seeds=0", *dirs], console)
    )
    # the rows of IMC share their spectrum: 9 gradients and 110 products of 128 images
    assert f", {(9 + 110) * 128:,} to measure on (110 Hessian-vector products)\n" in text


# --- hours


def test_hours_are_estimated_from_records_of_the_device_or_from_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = machine(tmp_path)
    run = compose_run("method=dense", *SMALL)
    next_seed = compose_run("method=dense", *SMALL, "seed=1")
    record, _ = perform_run(run, where)
    name, threads = record["provenance"]["device_name"], record["provenance"]["threads"]
    cost = stage_cost(next_seed, next_seed.stages[0], MLP, 0)

    def seconds(*records: dict[str, Any], threads: int = threads) -> float | None:
        return past_rates(records, name, threads, where.cache_dir).seconds(
            next_seed, next_seed.stages[0], MLP, cost
        )

    # equal work takes equal time
    assert seconds(record) == pytest.approx(record["stages"][0]["seconds"])
    assert seconds(record, record) == seconds(record)  # a shared stage counts once
    slow = {
        **record,
        "stages": [
            {**record["stages"][0], "key": "other", "seconds": 3 * record["stages"][0]["seconds"]}
        ],
    }
    assert seconds(record, slow) == pytest.approx(2 * record["stages"][0]["seconds"])
    assert seconds(record, threads=threads + 1) is None
    assert seconds({**record, "provenance": {**record["provenance"], "precision": "bf16"}}) is None
    rows = [
        {"precision": "fp32", "macs_per_image": 100_000, "macs_per_s": 1e6},
        {"precision": "fp32", "macs_per_image": 1e7, "macs_per_s": 1e9},
    ]
    save_bench(where.cache_dir, name, threads, rows)
    save_bench(where.cache_dir, "another device", threads, [])
    # 967,388,400 at the rate of the net of the nearest size, a million per second
    assert seconds() == pytest.approx(967.3884)
    text = list(lines(survey([(plan_run(next_seed), where)]), where, Team(threads)))
    assert (
        "time: about 0.269 hours one after another (estimate from make bench on"
        f" {device_name(where.device)}, {threads} thread(s))" in text
    )
    bf16 = compose_run("method=dense", *SMALL, "train.precision=bf16", "seed=3")
    # records with fp32 give no estimate for bf16
    assert (
        past_rates([record], name, threads, where.cache_dir).seconds(
            bf16, bf16.stages[0], MLP, cost
        )
        is None
    )
    monkeypatch.setattr("runner.planning.hours.PUBLISHED", tmp_path / "nothing shipped")
    unused = machine(tmp_path / "unused")
    assert "time: unknown: run make bench, or state a card: card=h200" in list(
        lines(survey([(plan_run(next_seed), unused)]), unused, Team(threads))
    )
    assert "time: nothing to compute" in list(
        lines(survey([(plan_run(run), where)]), where, Team(threads + 1))
    )


def test_hours_are_estimated_from_published_records_of_another_machine(tmp_path: Path) -> None:
    where = machine(tmp_path)
    run = compose_run("method=dense", *SMALL)
    record, _ = perform_run(run, where)

    def record_of(device: str, key: str, seconds: float) -> dict[str, Any]:
        stage = {**record["stages"][0], "key": key, "seconds": seconds}
        return {
            **record,
            "stages": [stage],
            "provenance": {**record["provenance"], "device_name": device, "threads": 7},
        }

    # device A has more records
    rates = shipped_rates(
        [record_of("A", "1", 10.0), record_of("B", "2", 500.0), record_of("A", "3", 30.0)]
    )
    assert rates.origin == "estimate from 2 past records on A, 7 thread(s)"
    assert rates.seconds(
        run, run.stages[0], MLP, stage_cost(run, run.stages[0], MLP, 0)
    ) == pytest.approx(20.0)
    assert (
        shipped_rates([]).seconds(run, run.stages[0], MLP, stage_cost(run, run.stages[0], MLP, 0))
        is None
    )


def test_the_time_of_a_measurement_is_scaled_by_the_size_of_the_net(tmp_path: Path) -> None:
    run = compose_run("method=imc", *SMALL)
    net, spectrum = measure_net(run.dataset, run.model), run.stage("spectrum")
    record = {
        "status": "done",
        "accuracy": 90.0,
        "test_loss": 0.5,
        "report": {},
        "method": "imc",
        "model": "other",
        "dataset": "digits",
        "train_fraction": 1.0,
        "flops": {"dense": 2 * net.forward},
        "stages": [
            {"name": "spectrum", "key": "a", "epochs": 0, "seconds": 10.0},
            {"name": "train", "key": "b", "epochs": 1, "seconds": 4.0},
        ],
        "provenance": {"device_name": "d", "threads": 1, "precision": "fp32"},
    }
    rates = past_rates([record], "d", 1, tmp_path)
    # half as many multiply-accumulates as in the record
    assert rates.seconds(run, spectrum, net, stage_cost(run, spectrum, net, 0)) == pytest.approx(
        5.0
    )
    train = run.stage("train")  # two epochs on a net of half the size
    assert rates.seconds(run, train, net, stage_cost(run, train, net, 0)) == pytest.approx(4.0)


# --- no tensors


def test_planning_reads_and_allocates_no_tensors(tmp_path: Path) -> None:
    where = machine(tmp_path)
    run = compose_run("method=snip", "density=0.5", *SMALL)
    record, _ = perform_run(run, where)
    folder = where.results_dir / "runs" / run_id(run)
    (folder / "result.json").write_text(json.dumps(record))
    for path in where.cache_dir.glob("stages/*/*.safetensors"):
        os.truncate(path, 0)  # reading it would fail
    jobs = [
        plan_run(compose_run("method=snip", "density=0.5", *SMALL, f"seed={seed}"))
        for seed in (0, 1)
    ]
    gc.collect()
    before = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
    text = console_text(lambda console: show([(job, where) for job in jobs], 1, console))
    gc.collect()
    assert "done 1, running 0, to do 1\n" in text and "epochs: asked 4, needed 2\n" in text
    assert sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects()) <= before


def test_a_plan_writes_no_files(tmp_path: Path) -> None:
    show(
        [(plan_run(compose_run("method=imc", *SMALL)), machine(tmp_path))],
        1,
        Console(file=io.StringIO()),
    )
    assert not (tmp_path / "results").exists() and not (tmp_path / "cache").exists()
