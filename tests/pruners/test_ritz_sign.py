"""The reading `ritz_sign`: counts of Ritz values against closed forms and PyHessian's algorithm."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL
from imc_cases import Constant, constant_task, digits, make_task, mlp, quadratic, symmetric, train
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

from pruners.analysis.ritz_signs import RitzSigns
from pruners.base import Measurement, Work, full_masks
from pruners.curvature.cuts import ritz_sign_k, ritz_sign_shares
from pruners.curvature.gap import Gap
from pruners.curvature.hessian import HessianOperator, HessianOptions
from pruners.curvature.lanczos import as_matrix, krylov, signs
from pruners.curvature.pyhessian_check import pyhessian_ritz_values
from pruners.curvature.samples import fixed_batches
from pruners.curvature.spectrum import Spectrum, SpectrumOptions
from runner.errors import ConfigError
from runner.spec.identity import run_id, stage_keys

DOUBLE = HessianOptions(dtype="float64")
MLP = [w for w in SMALL if not w.startswith("env.")]
READING = Gap(rule="ritz_sign")


def test_zero_counts_as_not_positive_and_runs_are_averaged() -> None:
    # two of four, then one of four
    values = torch.tensor([[-1.0, 0, 1, 2], [-1.0, 3, 4, 5]], dtype=torch.float64)
    weights = torch.full((2, 4), 0.25, dtype=torch.float64)
    assert ritz_sign_shares(values, weights, 4) == [0.5, 0.25]
    assert ritz_sign_k(values, weights, 1000, 4) == 375


@pytest.mark.parametrize("steps", [5, 20, 30])
def test_ritz_values_of_a_toeplitz_matrix_have_a_closed_form(steps: int) -> None:
    # From the first unit vector, Lanczos returns the leading blocks of a tridiagonal matrix. With a
    # on the diagonal and 1 beside it they have the eigenvalues a + 2 cos(j pi / (m + 1)).
    a, n = 0.5, 40
    t = a * torch.eye(n) + torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1)
    run = krylov(lambda v: t.double() @ v, torch.eye(n, dtype=torch.float64)[0], 35)
    expected = [a + 2 * math.cos(j * math.pi / (steps + 1)) for j in range(1, steps + 1)]
    (share,) = ritz_sign_shares(run.theta[None], run.tau[None], steps)
    assert share == sum(value <= 0 for value in expected) / steps


def test_an_exhausted_run_counts_the_values_that_it_has() -> None:
    a = symmetric(torch.tensor([-1.0, -1, 2, 2, 7, 7]))
    run = krylov(lambda v: a @ v, signs(6, Generator().manual_seed(0), a[0]), 100)
    theta, tau = (t[None] for t in run.padded(100))
    assert len(run.theta) == 3
    assert ritz_sign_shares(theta, tau, 100) == [pytest.approx(1 / 3)]
    made = READING.certainties(theta, tau, 6, 0.0, found=True)
    assert made["ritz_values"] == 3


def pyhessians_algorithm(h: Tensor, steps: int, seed: int) -> np.ndarray[Any, Any]:
    """Ritz values by Lanczos as PyHessian's density() does it, in float64: signs, normalised; each
    new vector is orthogonalised once against all before it, one after the other; the off-diagonal
    is the norm before that."""
    a, d = h.double().numpy(), len(h)
    draws = np.random.RandomState(seed)
    v = draws.randint(0, 2, d) * 2.0 - 1
    v /= np.linalg.norm(v)
    basis, diagonal, beside = [v], [], []
    w = a @ v
    diagonal.append(w @ v)
    w = w - diagonal[-1] * v
    for _ in range(steps - 1):
        beside.append(np.linalg.norm(w))
        for u in basis:
            w = w - (w @ u) * u
        v = w / np.linalg.norm(w)
        basis.append(v)
        w = a @ v
        diagonal.append(w @ v)
        w = w - diagonal[-1] * v - beside[-1] * basis[-2]
    return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))


def operator(model: nn.Module, options: HessianOptions = DOUBLE) -> HessianOperator:
    return HessianOperator(
        model,
        full_masks(model),
        fixed_batches(make_task(*digits()), options),
        nn.CrossEntropyLoss(),
        options,
    )


def test_ours_pyhessians_code_and_its_algorithm_written_again_count_alike() -> None:
    """Start vectors differ, so a count may differ by a value or two of a hundred."""
    model = train(mlp())
    ours = operator(model)
    written = [
        float((pyhessians_algorithm(as_matrix(ours.matvec, ours.point), 100, seed) <= 0).mean())
        for seed in (0, 1)
    ]
    run = krylov(ours.matvec, signs(ours.dimension, Generator().manual_seed(0), ours.point), 100)
    (share,) = ritz_sign_shares(run.theta[None], run.tau[None], 100)
    single = operator(model, HessianOptions())
    theirs = pyhessian_ritz_values(single, Generator().manual_seed(0), 100)
    assert len(theirs) == 100
    assert float(theirs[-1]) == pytest.approx(float(run.theta[-1]), rel=1e-3)
    for other in (*written, float((theirs <= 0).double().mean())):
        assert share == pytest.approx(other, abs=0.02 + 1e-9)


def test_pyhessians_run_leaves_torch_and_the_global_generator_as_they_are() -> None:
    state = torch.get_rng_state()
    pyhessian_ritz_values(operator(mlp(), HessianOptions()), Generator().manual_seed(0), 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.modules["pyhessian.hessian"].__dict__["torch"] is torch


def test_the_reading_takes_its_steps_and_shares_the_spectrum_of_as_many() -> None:
    assert Spectrum(gap=READING) == Spectrum(spectrum=SpectrumOptions(steps=100))
    longer = SpectrumOptions(steps=200)
    assert Spectrum(gap=READING, spectrum=longer) == Spectrum(spectrum=longer)
    assert Spectrum(gap=READING, density=0.5) == Spectrum()  # a given density needs no reading
    assert Spectrum(gap=replace(READING, steps=30)) == Spectrum()
    hard = Spectrum(gap=READING, subspace="curved")
    assert (hard.spectrum.steps, hard.gap) == (100, READING)


@pytest.mark.parametrize("estimator", ["dense", "lanczos_extremes", "diag"])
def test_an_estimator_without_ritz_values_of_runs_is_refused(estimator: str) -> None:
    with pytest.raises(ValueError, match="counts the Ritz values of runs of 100 steps, which"):
        Spectrum(gap=READING, spectrum=SpectrumOptions(estimator=estimator))
    Spectrum(gap=READING, spectrum=SpectrumOptions(estimator=estimator), density=0.5)


def test_steps_of_the_reading_are_checked() -> None:
    with pytest.raises(ValueError, match=r"method\.gap\.steps=0 must be at least 1"):
        Gap(rule="ritz_sign", steps=0)


def test_a_run_prunes_by_the_count_states_it_and_repeats(tmp_path: Path) -> None:
    overrides = [
        "method=imc",
        *MLP,
        "train.lr=0.01",
        "method.gap.rule=ritz_sign",
        "method.gap.steps=20",
        "method.spectrum.steps=5",
        "method.spectrum.probes=2",
        "method.lipschitz.directions=1",
        "method.hessian.n_samples=64",
    ]
    run = compose_run(*overrides)
    one, artefacts = perform_run(run, machine(tmp_path, cache="one"))
    two, _ = perform_run(run, machine(tmp_path, cache="two", results="again"))
    assert one["report"] == two["report"] and one["density"] == two["density"]
    values = artefacts["spectrum"].findings["ritz_values"]
    assert values.shape == (1, 20)  # only the run of the first probe has so many steps
    share = float((values <= 0).double().mean())
    assert one["sparsity"] == pytest.approx(share, abs=1 / one["prunable"])
    assert (one["report"]["gap_rule"], one["report"]["ritz_values"]) == ("ritz_sign", 20)
    assert one["report"]["found_density_converged"] is None
    assert run_id(run) != run_id(compose_run(*overrides, "method.gap.steps=19"))


def test_with_a_given_density_the_rule_changes_no_stage() -> None:
    plain, ruled = (
        compose_run("method=imc", "density=0.5", *MLP, *more)
        for more in ([], ["method.gap.rule=ritz_sign", "method.gap.steps=30"])
    )
    assert stage_keys(plain) == stage_keys(ruled) and run_id(plain) == run_id(ruled)


# --- the portrait


def portrait(measure: RitzSigns, a: Tensor) -> Measurement:
    model = Constant(torch.ones(len(a), dtype=torch.float64))
    return measure(model, full_masks(model), constant_task(quadratic(a)))


def test_the_portrait_states_the_shares_of_every_number_of_steps() -> None:
    a = symmetric(torch.linspace(-1, 3, 40))
    measure = RitzSigns(hessian=DOUBLE, steps=(5, 10, 40), counted=10, probes=2)
    found, rng = portrait(measure, a), Generator().manual_seed(0)
    starts = [signs(40, rng, a[0]) for _ in range(2)]
    for place, steps in enumerate((5, 10)):
        runs = [krylov(lambda v: a @ v, z, steps) for z in starts]
        shares = [float((run.theta <= 0).double().mean()) for run in runs]
        assert found.series["ritz_sign"][place] == pytest.approx(sum(shares) / 2)
        masses = [float(run.tau[run.theta <= 0].sum()) for run in runs]
        assert found.series["sign"][place] == pytest.approx(sum(masses) / 2)
    assert found.series["ritz_sign"][2] == 10 / 40  # all steps: the eigenvalues themselves
    each = [float((krylov(lambda v: a @ v, z, 10).theta <= 0).double().mean()) for z in starts]
    assert found.series["ritz_sign_each"] == pytest.approx(each)
    assert found.report["ritz_sign"] == found.series["ritz_sign"][1]
    assert found.report["ritz_sign_half"] == found.series["ritz_sign"][0]
    assert (found.report["ritz_values"], found.report["dimension"]) == (10, 40)
    assert measure.work(40, 50, 3) == Work(2 * 40 * 3, 2 * 40 * 3 * 6, 80)


def test_the_portrait_is_measured_at_wstar_beside_pyhessians_count(tmp_path: Path) -> None:
    run = compose_run(
        "method=wstar",
        *MLP,
        "portrait=ritz",
        "portrait.steps=[4,8]",
        "portrait.counted=8",
        "portrait.check=pyhessian",
        "portrait.hessian.n_samples=64",
    )
    made, artefacts = perform_run(run, machine(tmp_path))
    assert artefacts["portrait"].meta["series"]["ritz_steps"] == [4.0, 8.0]
    assert made["report"]["images"] == 64
    assert made["report"]["ritz_sign_pyhessian"] == pytest.approx(
        made["report"]["ritz_sign"], abs=0.26
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": (10, 5)}, "ascending numbers"),
        ({"counted": 7}, r"portrait\.counted=7 must be one of"),
        ({"probes": 0}, r"portrait\.probes=0"),
        ({"check": "curvlinops"}, r"portrait\.check='curvlinops' must be one of none, pyhessian"),
        ({"check": "pyhessian", "hessian": HessianOptions(mode="train")}, "eval mode only"),
    ],
)
def test_invalid_options_of_the_portrait_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RitzSigns(**wrong)


def test_the_portrait_needs_a_method_with_wstar() -> None:
    with pytest.raises(ConfigError, match="wstar"):
        compose_run("method=snip", "density=0.5", "portrait=ritz", *MLP)
