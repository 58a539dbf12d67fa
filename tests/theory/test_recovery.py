"""Recovery of teachers: outcomes, monotone success, noise, rates, and theory runs as records."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run
from torch import Generator

from models.student import Student
from pruners.base import Task
from pruners.theory.agd import Agd
from pruners.theory.recovery import Recovery, rate
from runner.data.teacher import GaussianTeacher
from runner.engine.ticket import load_ticket
from runner.errors import ConfigError
from runner.spec.identity import run_id, stage_keys

SIZES = {"dimension": 20, "neurons": 3}
RUN = [
    "method=theory/recovery",
    "dataset=gaussian_teacher",
    "model=student",
    "dataset.dimension=12",
    "dataset.neurons=3",
    "dataset.inputs=4",
]
RUN += ["dataset.samples=80", "method.trials=6"]


def task(seed: int = 0) -> Task:
    return Task(
        lambda a, b: a.sum(), lambda n: [], None, steps=0, rng=Generator().manual_seed(seed)
    )


def measured(teacher: GaussianTeacher, **options: Any) -> dict[str, Any]:
    found = Recovery(teacher, **{"trials": 20, **options})(
        Student("s", 3)(teacher.dimension, 1, 1, Generator()), {}, task()
    )
    return {**found.report, **found.series}


def test_outcomes_add_up_and_follow_their_definitions() -> None:
    # 45 unknowns: some trials find the teacher, some do not
    teacher = GaussianTeacher(**SIZES, inputs=15, samples=70)
    found = measured(teacher, solver=Agd(steps=600))
    success = [error < 1e-4 for error in found["error"]]
    capped = [not ok and n == 600 for ok, n in zip(success, found["steps"], strict=True)]
    assert found["converged"] == sum(success) and found["capped"] == sum(capped)
    assert found["converged"] + found["capped"] + found["wrong_minimum"] == 20
    assert 0 < found["converged"] < 20 and found["converged_share"] == found["converged"] / 20


def test_fewer_examples_than_weights_end_in_a_wrong_minimum() -> None:
    found = measured(GaussianTeacher(**SIZES, inputs=20, samples=20), solver=Agd(tolerance=1e-5))
    assert found["converged"] == 0 and found["wrong_minimum"] > 0


def test_success_grows_with_examples_and_falls_with_inputs_and_distance() -> None:
    # 40 trials a cell: a share may deviate from the trend by chance, by at most 0.1
    # (docs/methods/sample_complexity.md).
    def share(inputs: int, samples: int, distance: float) -> float:
        teacher = GaussianTeacher(**SIZES, inputs=inputs, samples=samples)
        return float(
            measured(teacher, trials=40, distance=distance, solver=Agd(steps=2000))[
                "converged_share"
            ]
        )

    by_samples = [share(10, n, 0.2) for n in (20, 35, 50, 120)]
    by_inputs = [share(r, 50, 0.2) for r in (4, 10, 14, 20)]
    by_distance = [share(12, 60, d) for d in (0.1, 1.0, 8.0)]
    for rising in (by_samples, by_inputs[::-1], by_distance[::-1]):
        assert all(b >= a - 0.1 for a, b in zip(rising, rising[1:], strict=False)), rising
        assert rising[0] < rising[-1], rising
    assert by_samples[0] < 0.5 < by_samples[-1] and by_inputs[-1] < 0.5 < by_inputs[0]


def test_the_error_is_proportional_to_the_noise() -> None:
    errors = [
        measured(GaussianTeacher(**SIZES, inputs=6, samples=300, noise=noise))["error_mean"]
        for noise in (1e-4, 1e-3, 1e-2)
    ]
    # The problems are the same, so the error is linear in the noise except for switching neurons.
    assert errors[1] / errors[0] == pytest.approx(10, rel=0.02)
    assert errors[2] / errors[1] == pytest.approx(10, rel=0.1)


def test_a_rate_is_the_slope_of_the_logarithm_after_the_first_fifth() -> None:
    steps = torch.arange(41, dtype=torch.float64) * 10
    trace = torch.where(steps < 80, 5.0, 0.98**steps)  # 400 steps: the first 80 are not fitted
    assert rate(trace, 400, 10) == pytest.approx(0.98, rel=1e-12)
    assert rate(trace, 15, 10) is None


def test_momentum_speeds_up_convergence_by_about_one_over_one_minus_beta() -> None:
    teacher = GaussianTeacher(**SIZES, inputs=6, samples=400)
    plain, heavy = (
        measured(teacher, trials=10, trace=10, solver=Agd(eta=0.2, beta=beta))
        for beta in (0.0, 0.5)
    )
    ratio = torch.tensor(heavy["rate"]).log() / torch.tensor(plain["rate"]).log()
    assert plain["rates_fitted"] == heavy["rates_fitted"] == 10
    assert float(ratio) == pytest.approx(2, rel=0.1)


def test_chunks_change_only_rounding() -> None:
    teacher = GaussianTeacher(**SIZES, inputs=6, samples=100)
    one, all_ = (measured(teacher, chunk_mb=size) for size in (1e-6, 100.0))
    assert one["steps"] == all_["steps"] and one["error"] == pytest.approx(all_["error"], rel=1e-4)


# --- through the runner


def test_a_theory_run_repeats_and_its_record_has_no_training_fields(tmp_path: Path) -> None:
    run = compose_run(*RUN)
    record, artefacts = perform_run(run, machine(tmp_path))
    again, _ = perform_run(run, machine(tmp_path, cache="other"))
    for key in (
        "accuracy",
        "accuracy_best",
        "accuracy_top5",
        "test_loss",
        "val_accuracy",
        "density",
        "sparsity",
        "kept",
        "density_target",
    ):
        assert record[key] is None, key
    assert record["provenance"]["precision"] == "fp64"
    assert (
        record["prunable"],
        record["flops"]["dense"],
        record["epochs"],
        record["epochs_total"],
    ) == (36, 36, 0, 0)
    assert record["report"] == again["report"] and record["report"]["trials"] == 6
    series = json.loads(
        (tmp_path / "results" / "runs" / record["run_id"] / "series.json").read_text()
    )
    assert len(series["error"]) == 6


def test_seeds_settings_and_memory_change_the_run_id() -> None:
    run = compose_run(*RUN)
    others = [
        compose_run(*RUN, word)
        for word in (
            "seed=1",
            "dataset.noise=0.1",
            "method.solver.eta=1",
            "method.distance=0.3",
            "method.chunk_mb=1",
        )
    ]
    assert (
        len({run_id(r) for r in [run, *others]})
        == len({stage_keys(r)["trials"] for r in [run, *others]})
        == 6
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=theory/recovery", "dataset=digits", "model=mlp"],
            "dataset=digits has no teacher: a theory experiment takes dataset=gaussian_teacher",
        ),
        (
            ["method=snip", "density=0.1", "dataset=gaussian_teacher", "model=student"],
            "has no images to train or prune on",
        ),
        ([*RUN, "method.solver.beta=1"], r"method.solver.beta=1 must be in \[0, 1\)"),
        ([*RUN, "density=0.5"], "takes no density"),
        ([*RUN, "dataset.inputs=13"], "from 1 to dataset.dimension=12"),
    ],
)
def test_invalid_combinations_are_rejected(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run(*overrides)


def test_load_ticket_rejects_a_measurement(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from runner.config.compose import compose_config

    record, _ = perform_run(compose_run(*RUN), machine(tmp_path))
    folder = tmp_path / "results" / "runs" / record["run_id"]
    (folder / "result.json").write_text(json.dumps(record))
    OmegaConf.save(compose_config(RUN), folder / "config.yaml", resolve=True)
    with pytest.raises(FileNotFoundError, match="only measures"):
        load_ticket(
            record["run_id"], results_dir=tmp_path / "results", cache_dir=tmp_path / "cache"
        )
