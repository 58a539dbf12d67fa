"""Standard errors and convergence checks of numbers that Lanczos runs give, on known spectra."""

import math

import pytest
import torch
from torch import Generator, Tensor

from pruners.curvature.certainty import TOLERANCE, Certainty, Runs, standard_error
from pruners.curvature.cuts import smoothed_k, smoothed_step
from pruners.curvature.gap import Gap
from pruners.curvature.lanczos import krylov
from pruners.curvature.lipschitz import jackknife

# A net's Hessian in small: 1,940 eigenvalues far below sigma = sqrt(1e-5 * 100) = 0.032, outliers.
D = 2000
BULK = 1e-3 * torch.randn(1940, generator=Generator().manual_seed(0), dtype=torch.float64)
EIGENVALUES = torch.cat([BULK, torch.logspace(-1, 2, 60, dtype=torch.float64)])
TRUE = float(smoothed_step(EIGENVALUES, 1e-5).mean())


def measured(steps: int, probes: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ritz values and weights (probes, steps) of the diagonal matrix of EIGENVALUES.

    From normal vectors: signs in its eigenbasis would have no error of sampling.
    """
    rng = Generator().manual_seed(seed)
    starts = [torch.randn(D, generator=rng, dtype=torch.float64) for _ in range(probes)]
    runs = [krylov(lambda v: EIGENVALUES * v, z, steps) for z in starts]
    return torch.stack([run.theta for run in runs]), torch.stack([run.tau for run in runs])


def smoothed(values: Tensor, weights: Tensor) -> float:
    return 1 - smoothed_k(values, weights, D, 1e-5) / D


def test_the_standard_error_equals_an_example_worked_by_hand() -> None:
    # deviations -1, 0, 1: s = 1, over sqrt(3)
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3))
    assert standard_error([1.0]) is None
    assert standard_error([0.7] * 3) == 0.0  # exactly, although 3 * 0.7 rounds


def test_the_jackknife_of_a_mean_is_s_over_root_n_and_of_a_maximum_the_distance_to_the_next() -> (
    None
):
    found = torch.tensor([1.0, 2.0, 6.0, 3.0], dtype=torch.float64)
    assert jackknife(torch.mean, found) == pytest.approx(float(found.std()) / 2)
    # Without the 6 the maximum is 3, else 6: (n - 1) / n * (6 - 3).
    assert jackknife(torch.max, found) == pytest.approx(0.75 * 3)
    assert jackknife(torch.mean, found[:1]) is None


def test_the_standard_error_of_the_probes_covers_the_true_mean() -> None:
    values, weights = measured(60, probes=12)
    top = Runs.of(values, weights, D).certainty(lambda v, w: float((w * v).sum()))
    mean = float((weights * values).sum(-1).mean())
    assert top.error is not None and top.error > 0
    assert abs(mean - float(EIGENVALUES.mean())) < 4 * top.error + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_what_passes_the_check_is_near_the_truth_and_few_steps_do_not_pass(seed: int) -> None:
    passed = []
    for steps in (12, 25, 50, 200):
        values, weights = measured(steps, probes=2, seed=seed)
        certain = Runs.of(values, weights, D).certainty(smoothed)
        if certain.converged:
            passed.append(steps)
            assert abs(smoothed(values, weights) - TRUE) < 2 * TOLERANCE
    assert passed == [200] or passed == [50, 200]


def test_errors_of_two_probes_that_cancel_do_not_pass() -> None:
    # The mean is 1/2 with two steps and, by symmetry, with one; each probe moves by 1/2.
    values = torch.tensor([[-1.0, 2.0], [-2.0, 1.0]], dtype=torch.float64)
    weights = torch.full((2, 2), 0.5, dtype=torch.float64)
    certain = Runs.of(values, weights, 100).certainty(lambda v, w: float((w * (v < 0)).sum()))
    assert certain == Certainty(0.0, 0.5, 0.5, converged=False)


def test_a_whole_spectrum_and_an_exhausted_run_are_exact() -> None:
    eigenvalues = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    dense = Runs.of(eigenvalues, torch.full((1, 3), 1 / 3, dtype=torch.float64), 3)
    assert dense.certainty(lambda v, _: float(v.max())) == Certainty(None, 2.0, 0.0, converged=True)
    a = torch.tensor([1.0, 1, 1, 5, 5, 9], dtype=torch.float64)
    run = krylov(lambda v: a * v, torch.ones(6, dtype=torch.float64), 4)
    padded = Runs.of(*(t[None] for t in run.padded(4)), 6)
    assert padded.certainty(lambda v, _: float(v.min())).converged


def test_a_gap_that_only_some_steps_have_is_not_converged() -> None:
    values, weights = (t[:1] for t in measured(24))

    def long(v: Tensor, _: Tensor) -> float | None:
        return 1.0 if v.shape[-1] >= 24 else None

    found = Runs.of(values, weights, D).certainty(long)
    assert found.converged is False and found.half is None
    assert found.findings("k")["k_change"] is None
    assert Runs.of(values, weights, D).certainty(lambda v, w: None).converged


def test_a_rule_states_the_errors_of_what_it_finds_and_of_nothing_that_was_given() -> None:
    values, weights = measured(30, probes=3)
    made = Gap().certainties(values, weights, D, 1.0, found=True)
    assert made["found_density_converged"] == made["smoothed_density_converged"]
    assert isinstance(made["found_density_se"], float)
    given = Gap().certainties(values, weights, D, 1.0, found=False)
    assert not any(name.startswith("found") for name in given)
    assert {name.partition("_")[2] for name in given if name.startswith("literal")} == {
        "k_se",
        "k_half",
        "k_change",
        "k_converged",
    }


def test_a_count_of_ritz_values_has_its_value_at_half_of_its_own_steps_and_no_verdict() -> None:
    values, weights = measured(60, probes=2)
    made = Gap(rule="ritz_sign", steps=40).certainties(values, weights, D, 1.0, found=True)
    shorter = [measured(20, probes=2)[0][i] for i in range(2)]
    share = sum(float((v <= 0).double().mean()) for v in shorter) / 2
    assert made["found_density_half"] == pytest.approx(1 - share, abs=1 / D)
    assert (made["found_density_converged"], made["ritz_values"]) == (None, 40)
