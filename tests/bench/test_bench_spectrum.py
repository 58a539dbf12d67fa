"""Benchmark of spectra: distances by hand, both estimators against an exact spectrum, memory."""

import sys

import pytest
import torch
import torch.nn.functional as F

from models.mlp import perceptron
from runner.bench import spectrum as bench_spectrum
from runner.bench.spectrum import (
    LONG,
    MISSING,
    OURS,
    SHORT,
    THEIRS,
    Ritz,
    distance,
    exact,
    has_pyhessian,
    ours,
    spectrum_figures,
    symmetric_eig,
    theirs,
)


def ritz(values: list[float], weights: list[float]) -> Ritz:
    return Ritz(
        torch.tensor(values, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
    )


def test_the_distance_is_the_mass_times_the_distance_that_it_moves() -> None:
    assert distance(ritz([0.0], [1.0]), ritz([0.0, 1.0], [0.5, 0.5])) == pytest.approx(0.5)
    # the whole mass moves by 2
    assert distance(
        ritz([3.0, -1.0], [0.25, 0.75]), ritz([1.0, 5.0], [0.75, 0.25])
    ) == pytest.approx(2.0)
    assert distance(ritz([1.0, 2.0], [0.5, 0.5]), ritz([2.0, 1.0, 7.0], [0.5, 0.5, 0.0])) == 0


@pytest.mark.parametrize("estimate", [ours, theirs])
@pytest.mark.parametrize("batches", [1, 2])
def test_both_estimators_match_the_exact_spectrums_ends_and_trace(estimate, batches: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = perceptron(4, [5], 3).double().float()
    x, y = torch.randn(20, 4, generator=torch.Generator().manual_seed(2)), torch.arange(20) % 3
    parts = list(zip(x.split(20 // batches), y.split(20 // batches), strict=True))
    truth = exact(model, parts)
    d, probes = len(truth.values), 40
    assert d == sum(p.numel() for p in model.parameters()) == 43
    found = estimate(model, parts, 20, probes)
    assert len(found.values) == len(found.weights) == 20 * probes
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-4)
    for end in (torch.min, torch.max):
        assert float(end(found.values)) == pytest.approx(float(end(truth.values)), abs=1e-4)
    # Hutchinson: for random signs z, the variance of z'Hz is twice the sum of the squared
    # off-diagonal entries, at most twice the sum of squared eigenvalues.
    standard_error = (2 * float((truth.values**2).sum()) / probes) ** 0.5 / d
    assert (
        abs(float((found.values * found.weights).sum() - truth.values.mean())) < 4 * standard_error
    )


def test_the_exact_spectrum_is_that_of_torchs_hessian() -> None:
    model = perceptron(3, [], 2).double()
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 2
    weight, bias = (p.detach() for p in model.parameters())
    flat = torch.cat([weight.flatten(), bias])
    h = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(x @ w[:6].view(2, 3).T + w[6:], y), flat
    )
    assert torch.allclose(
        exact(model, [(x, y)]).values.sort().values, torch.linalg.eigvalsh(h), atol=1e-10
    )


def test_torch_eig_exists_only_during_the_call() -> None:
    before = vars(torch).get("eig")
    with symmetric_eig():
        values, vectors = torch.eig(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), eigenvectors=True)
    assert values.tolist() == [pytest.approx([1, 0]), pytest.approx([3, 0])]
    assert vectors[0].square().tolist() == pytest.approx([0.5, 0.5])
    assert vars(torch).get("eig") is before


@pytest.mark.slow
def test_each_lanczos_step_stores_one_vector_of_the_weights_size() -> None:
    (weights, long), (_, short) = (
        bench_spectrum._in_a_process(OURS, steps) for steps in (LONG, SHORT)
    )
    assert weights > 4_000_000
    assert 0.9 < (long - short) / weights / (LONG - SHORT) < 1.1


def test_without_pyhessian_its_rows_are_replaced_by_an_install_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert has_pyhessian()
    monkeypatch.setitem(sys.modules, "pyhessian", None)  # makes the import fail
    assert not has_pyhessian() and set(bench_spectrum.errors()) == {OURS}
    found = list(spectrum_figures({OURS: 0.5}, {OURS: 1.0}))
    assert [(f.rival, f.ratio) for f in found] == [(MISSING, None)] * 2
    assert "pip install" in MISSING


def test_the_figures_have_pyhessians_numbers_as_multiples_of_ours() -> None:
    error, taken = spectrum_figures({OURS: 0.002, THEIRS: 0.006}, {OURS: 1.25, THEIRS: 1.5})
    assert (error.value, error.rival_value, error.ratio) == (0.002, 0.006, pytest.approx(3.0))
    assert (taken.value, taken.rival_value, taken.ratio) == (1.25, 1.5, pytest.approx(1.2))
