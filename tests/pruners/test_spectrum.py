"""The spectrum stage: leverage, diagonal and Ritz values against exact decompositions."""

from dataclasses import replace

import pytest
import torch
from imc_cases import (
    Constant,
    constant_task,
    conv_bn,
    digits,
    make_task,
    mlp,
    quadratic,
    snapshot,
    symmetric,
    train,
    unchanged,
)
from torch import Generator, Tensor, nn

from pruners.base import Measurement, full_masks
from pruners.curvature.cuts import smoothed_k, smoothed_step
from pruners.curvature.gap import Gap
from pruners.curvature.hessian import HessianOperator, HessianOptions
from pruners.curvature.lanczos import as_matrix
from pruners.curvature.samples import fixed_batches
from pruners.curvature.spectrum import Spectrum, SpectrumOptions

DOUBLE = HessianOptions(dtype="float64")
DENSE = Spectrum(hessian=DOUBLE, spectrum=SpectrumOptions(estimator="dense"))
SLQ = Spectrum(hessian=DOUBLE)


def measure(spectrum: Spectrum, a: Tensor, w: Tensor | None = None, seed: int = 0) -> Measurement:
    """The measurement on w'Aw / 2, whose Hessian is A."""
    model = Constant(torch.ones(len(a), dtype=torch.float64) if w is None else w)
    return spectrum(model, full_masks(model), constant_task(quadratic(a), seed=seed))


def on_digits(spectrum: Spectrum, model: nn.Module, **more: object) -> Measurement:
    return spectrum(model, full_masks(model), make_task(*digits(), **more))


def leverage(found: Measurement) -> Tensor:
    return found.tensors["leverage/layer.weight"].flatten().double()


def exact_hessian(model: nn.Module) -> Tensor:
    h = HessianOperator(
        model,
        full_masks(model),
        fixed_batches(make_task(*digits()), DOUBLE),
        nn.CrossEntropyLoss(),
        DOUBLE,
    )
    return as_matrix(h.matvec, h.point)


def flat(found: Measurement, kind: str) -> Tensor:
    return torch.cat(
        [t.flatten() for name, t in found.tensors.items() if name.startswith(f"{kind}/")]
    ).double()


def hard(subspace: str, density: float, like: Spectrum = DENSE) -> Spectrum:
    return replace(like, subspace=subspace, density=density)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    return float(
        torch.corrcoef(
            torch.stack([a.argsort().argsort().double(), b.argsort().argsort().double()])
        )[0, 1]
    )


# Eigenvalues -2, -1, 1, 5 on the coordinates 3, 1, 0, 2; half of the coordinates are kept.
@pytest.mark.parametrize(
    ("subspace", "kept"), [("curved", [1, 0, 1, 0]), ("flat", [0, 1, 0, 1]), ("abs", [0, 0, 1, 1])]
)
@pytest.mark.parametrize("estimator", ["dense", "diag", "slq", "lanczos_extremes"])
def test_a_diagonal_hessian_gives_an_indicator(
    subspace: str, kept: list[int], estimator: str
) -> None:
    spectrum = hard(subspace, 0.5, replace(DENSE, spectrum=SpectrumOptions(estimator=estimator)))
    found = measure(spectrum, torch.diag(torch.tensor([1.0, -1, 5, -2], dtype=torch.float64)))
    torch.testing.assert_close(leverage(found), torch.tensor(kept).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat(found, "diagonal"), torch.tensor([1.0, -1, 5, -2]).double())


@pytest.mark.parametrize("subspace", ["curved", "flat", "abs"])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_leverage_lies_between_zero_and_one_and_sums_to_the_kept_dimension(
    subspace: str, density: float
) -> None:
    h = exact_hessian(train(mlp()))
    found = measure(hard(subspace, density), h)
    l = leverage(found)  # noqa: E741
    assert float(l.min()) >= -1e-6
    assert float(l.max()) <= 1 + 1e-6
    assert float(l.sum()) == pytest.approx(round(density * len(h)), rel=1e-5)
    assert found.report["leverage_ratio"] == pytest.approx(1.0)


def test_exact_leverage_is_the_diagonal_of_the_projector() -> None:
    h = symmetric(torch.linspace(-1, 3, 20))
    values, vectors = torch.linalg.eigh(h)
    torch.testing.assert_close(
        leverage(measure(hard("curved", 0.3), h)), (vectors[:, -6:] ** 2).sum(1), atol=1e-6, rtol=0
    )
    smooth = vectors**2 @ smoothed_step(values, 1e-5)
    torch.testing.assert_close(leverage(measure(DENSE, h)), smooth, atol=1e-6, rtol=0)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_leverage_does_not_depend_on_the_basis_of_a_degenerate_space(density: float) -> None:
    # Ten equal eigenvalues in the middle; the two matrices use different bases of their eigenspace.
    values = torch.cat(
        [torch.full((5,), -1.0), torch.full((10,), 2.0), torch.full((5,), 7.0)]
    ).double()
    q, _ = torch.linalg.qr(
        torch.randn(20, 20, generator=Generator().manual_seed(3), dtype=torch.float64)
    )
    turn, _ = torch.linalg.qr(
        torch.randn(10, 10, generator=Generator().manual_seed(4), dtype=torch.float64)
    )
    other = torch.cat([q[:, :5], q[:, 5:15] @ turn, -q[:, 15:]], 1)
    one, two = (
        leverage(measure(hard("curved", density), b @ torch.diag(values) @ b.T)) for b in (q, other)
    )
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_leverage_permutes_with_the_coordinates() -> None:
    h = symmetric(torch.linspace(-1, 3, 20))
    order = torch.randperm(20, generator=Generator().manual_seed(0))
    for spectrum in (DENSE, hard("curved", 0.4), hard("abs", 0.4)):
        torch.testing.assert_close(
            leverage(measure(spectrum, h[order][:, order])),
            leverage(measure(spectrum, h))[order],
            atol=1e-6,
            rtol=0,
        )


@pytest.mark.parametrize("estimator", ["dense", "slq", "diag"])
@pytest.mark.parametrize("subspace", ["curved", "abs"])
def test_dead_coordinates_have_no_leverage_on_the_curved_side(
    estimator: str, subspace: str
) -> None:
    h = torch.zeros(12, 12, dtype=torch.float64)
    h[2:10, 2:10] = symmetric(torch.linspace(-2, 3, 8))
    dead = torch.tensor([0, 1, 10, 11])
    found = measure(
        hard(subspace, 0.5, replace(DENSE, spectrum=SpectrumOptions(estimator=estimator))), h
    )
    assert leverage(found)[dead].tolist() == [0, 0, 0, 0]
    assert flat(found, "diagonal")[dead].tolist() == [0, 0, 0, 0]
    assert float(leverage(found).sum()) > 3


def test_smoothed_slq_is_close_to_the_exact_mass_on_a_trained_net() -> None:
    model = train(mlp())
    exact = torch.linalg.eigvalsh(exact_hessian(model))
    expected = smoothed_k(
        exact[None],
        torch.full((1, len(exact)), 1 / len(exact), dtype=torch.float64),
        len(exact),
        1e-5,
    ) / len(exact)
    found = on_digits(Spectrum(), model)  # the defaults: 50 steps, 10 probes, float32
    assert found.tensors["ritz_values"].shape == (10, 50)
    assert smoothed_k(
        found.tensors["ritz_values"], found.tensors["ritz_weights"], len(exact), 1e-5
    ) / len(exact) == pytest.approx(expected, abs=0.01)
    assert 0.1 < expected < 0.9
    assert found.report["lambda_max"] == pytest.approx(float(exact[-1]), rel=1e-4)
    assert found.report["lambda_min"] == pytest.approx(float(exact[0]), rel=1e-2)
    assert found.report["trace"] == pytest.approx(float(exact.sum()), rel=0.1)
    assert found.report["leverage_ratio"] == pytest.approx(1.0, abs=1e-4)
    d_minus_k = len(exact) - smoothed_k(
        found.tensors["ritz_values"], found.tensors["ritz_weights"], len(exact), 1e-5
    )
    assert float(flat(found, "leverage").sum()) == pytest.approx(d_minus_k, abs=1.0)  # k is rounded


def test_smoothed_leverage_converges_to_the_exact_one() -> None:
    model = train(mlp())
    exact = flat(on_digits(DENSE, model), "leverage")
    few, many = (
        flat(
            on_digits(replace(SLQ, spectrum=SpectrumOptions(steps=60, probes=n)), model), "leverage"
        )
        for n in (10, 60)
    )
    # expected ratio: 1 / sqrt(6) = 0.41
    assert float((many - exact).std()) < float((few - exact).std()) / 2
    assert rank_correlation(many, exact) > 0.8


def test_a_hard_cut_at_the_outliers_matches_the_exact_projector() -> None:
    model = train(mlp())
    density = 9 / 592  # the class outliers
    exact, found = (
        flat(on_digits(hard("curved", density, s), model), "leverage")
        for s in (DENSE, replace(SLQ, spectrum=SpectrumOptions(probes=40)))
    )
    assert float(found.min()) >= 0
    assert float(found.sum()) == pytest.approx(9, rel=1e-3)
    assert rank_correlation(found, exact) > 0.9


def test_lanczos_extremes_gives_the_exact_leverage_of_converged_directions() -> None:
    h = symmetric(torch.cat([torch.linspace(0, 0.05, 197), torch.tensor([3.0, 5.0, 10.0])]))
    long = replace(SLQ, spectrum=SpectrumOptions(estimator="lanczos_extremes", steps=30))
    expected = leverage(measure(hard("curved", 3 / 200), h))
    found = measure(hard("curved", 3 / 200, long), h)
    torch.testing.assert_close(leverage(found), expected, atol=1e-5, rtol=0)
    assert float(found.tensors["ritz_weights"].sum()) == pytest.approx(1.0)
    assert found.tensors["ritz_weights"][0, -3:].tolist() == [1 / 200] * 3  # simple eigenvalues
    smooth = measure(long, h)
    assert smooth.report["leverage_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize("flat_dimensions", [0, 15])
def test_lanczos_extremes_is_exact_when_all_directions_have_converged(flat_dimensions: int) -> None:
    # 20 simple eigenvalues, or five and an eigenspace of 15 dimensions, which ends the run early
    steep = torch.linspace(1.0, 3.0, 20 - flat_dimensions)
    h = symmetric(torch.cat([torch.zeros(flat_dimensions), steep]))
    full = SpectrumOptions(estimator="lanczos_extremes", steps=20)
    for cut in (hard("curved", 5 / 20), hard("curved", 2 / 20)):
        found = measure(replace(cut, spectrum=full), h)
        torch.testing.assert_close(leverage(found), leverage(measure(cut, h)), atol=1e-6, rtol=0)
        weights = found.tensors["ritz_weights"][0]
        torch.testing.assert_close(weights[-len(steep) :], torch.full_like(steep, 1 / 20).double())
        assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)


# with as many steps as dimensions, Ritz values are eigenvalues
LONG = replace(SLQ, spectrum=SpectrumOptions(steps=20))


@pytest.mark.parametrize("like", [DENSE, LONG])
def test_the_smoothed_projected_weight_is_the_smoothed_step_of_h_times_the_weights(
    like: Spectrum,
) -> None:
    h = symmetric(torch.linspace(-1, 3, 20))
    w = torch.randn(20, generator=Generator().manual_seed(1), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(h)
    found = measure(replace(like, density=0.5, mask_rule="projected_weight"), h, w)
    expected = vectors @ (smoothed_step(values, 1e-5) * (vectors.T @ w))
    torch.testing.assert_close(flat(found, "projected"), expected, atol=1e-5, rtol=0)
    assert (
        "projected/layer.weight" not in measure(replace(like, mask_rule="leverage"), h, w).tensors
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("like", "beside"), [(DENSE, 0), (LONG, 3)])
@pytest.mark.parametrize("subspace", ["curved", "flat"])
def test_the_projected_weight_is_the_projector_times_the_weights(
    subspace: str, like: Spectrum, beside: int, seed: int
) -> None:
    """Ten probes place the cut with a standard deviation of 1.4 eigenvalues; for every cut, the
    projection must be that onto the eigenvectors on its side."""
    h = symmetric(torch.linspace(-1, 3, 20))
    w = torch.randn(20, generator=Generator().manual_seed(1), dtype=torch.float64)
    _, vectors = torch.linalg.eigh(h)  # eigenvalues ascend
    ranked = vectors.flip(1) if subspace == "curved" else vectors
    found = flat(
        measure(
            replace(like, subspace=subspace, density=0.5, mask_rule="projected_weight"), h, w, seed
        ),
        "projected",
    )
    errors = [
        float((found - ranked[:, :kept] @ (ranked[:, :kept].T @ w)).abs().max())
        for kept in range(21)
    ]
    kept = min(range(21), key=errors.__getitem__)
    assert errors[kept] < 1e-5 < 1e-3 < sorted(errors)[1]
    assert abs(kept - 10) <= beside


def test_every_quantity_has_the_parameters_names_and_shapes() -> None:
    model = conv_bn()
    found = on_digits(replace(SLQ, spectrum=SpectrumOptions(steps=5, probes=2)), model)
    shapes = {name: tuple(t.shape) for name, t in found.tensors.items()}
    assert shapes == {
        "leverage/0.weight": (4, 1, 3, 3),
        "leverage/5.weight": (10, 16),
        "leverage_variance/0.weight": (),
        "leverage_variance/5.weight": (),
        "diagonal/0.weight": (4, 1, 3, 3),
        "diagonal/5.weight": (10, 16),
        "ritz_values": (2, 5),
        "ritz_weights": (2, 5),
    }
    assert {name: t.dtype for name, t in found.tensors.items() if name.startswith("ritz")} == {
        "ritz_values": torch.float64,
        "ritz_weights": torch.float64,
    }
    everything = on_digits(
        replace(
            SLQ, hessian=HessianOptions(params="all"), spectrum=SpectrumOptions(steps=5, probes=2)
        ),
        model,
    )
    assert {f"leverage/{name}" for name, _ in model.named_parameters()} <= set(everything.tensors)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_measuring_leaves_the_model_unchanged_bit_for_bit(mode: str) -> None:
    model = conv_bn()
    before = snapshot(model)
    on_digits(
        Spectrum(hessian=HessianOptions(mode=mode), spectrum=SpectrumOptions(steps=4, probes=2)),
        model,
    )
    assert unchanged(before, model)


def test_equal_seeds_give_equal_bits_without_the_global_generator() -> None:
    short = replace(SLQ, spectrum=SpectrumOptions(steps=5, probes=2))
    state = torch.get_rng_state()
    one, two, other = (flat(on_digits(short, mlp(), seed=s), "leverage") for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_options_that_do_not_affect_the_smoothed_side_are_reset() -> None:
    given = Spectrum(
        gap=Gap(rule="fixed", sparsity=0.3, sigma2=1e-4), density=0.5, mask_rule="leverage"
    )
    assert given == Spectrum(gap=Gap(sigma2=1e-4))
    assert given != Spectrum()
    cut = Spectrum(
        subspace="curved",
        gap=Gap(rule="fixed", sparsity=0.3),
        density=0.5,
        mask_rule="projected_weight",
    )
    assert (cut.gap.sparsity, cut.density, cut.mask_rule) == (0.3, 0.5, "projected_weight")


def test_a_hard_cut_by_the_literal_rule_uses_k_of_the_lipschitz_stage() -> None:
    h = symmetric(torch.cat([torch.zeros(10), torch.full((10,), 9.0)]))
    spectrum = replace(DENSE, subspace="curved", gap=Gap(rule="literal"))
    model = Constant(torch.ones(20, dtype=torch.float64))
    masks, measured = full_masks(model), {"lipschitz": Measurement(report={"lipschitz": 1.0})}
    found = spectrum(model, masks, constant_task(quadratic(h), measured=measured))
    assert found.report["leverage_sum"] == pytest.approx(10, rel=1e-5)
    with pytest.raises(ValueError, match="needs the measure stage 'lipschitz'"):
        spectrum(model, masks, constant_task(quadratic(h)))


def test_progress_counts_all_products() -> None:
    ticks: list[tuple[int, int, str]] = []
    on_digits(
        replace(SLQ, spectrum=SpectrumOptions(steps=5, probes=2)),
        mlp(),
        progress=lambda *t: ticks.append(t),
    )
    assert ticks == [(i, 10, "Hessian-vector products") for i in range(1, 11)]


def test_findings_have_standard_errors_and_checks_where_there_are_runs() -> None:
    model = train(mlp())
    found = on_digits(replace(SLQ, spectrum=SpectrumOptions(steps=30, probes=4)), model).report
    assert found["trace_se"] == pytest.approx(found["trace_sd"] / 3**0.5)  # s / sqrt(4), n - 1
    # outliers converge within a few steps, the mass of signs of numbers near zero does not
    assert found["lambda_max_converged"] == 1 and found["negative_share_converged"] == 0
    assert found["lambda_max_half"] == pytest.approx(found["lambda_max"], rel=0.01)
    exact = on_digits(DENSE, model).report
    assert (exact["negative_share_converged"], exact["negative_share_se"]) == (1, None)
    diag = replace(SLQ, spectrum=SpectrumOptions(estimator="diag", probes=2))
    assert not any(name.endswith("_converged") for name in on_digits(diag, model).report)


def test_pyhessians_estimates_are_reported_beside_ours() -> None:
    found = on_digits(
        replace(SLQ, spectrum=SpectrumOptions(steps=20, probes=10, check="pyhessian")), train(mlp())
    ).report
    assert found["pyhessian_lambda_max"] == pytest.approx(found["lambda_max"], rel=0.01)
    assert found["pyhessian_trace"] == pytest.approx(found["trace"], rel=0.25)


def test_a_single_probe_has_no_standard_deviation() -> None:
    found = on_digits(replace(SLQ, spectrum=SpectrumOptions(steps=5, probes=1)), mlp()).report
    assert found["lambda_max_sd"] is None
    assert found["trace_sd"] is None


def test_the_dense_estimator_rejects_large_nets_with_a_solution() -> None:
    model = nn.Linear(501, 10)
    with pytest.raises(
        ValueError,
        match=(
            r"takes up to 5,000 parameters, this net has 5,010: take"
            r" method\.spectrum\.estimator=slq"
        ),
    ):
        DENSE(
            model,
            full_masks(model),
            make_task(torch.zeros(4, 501), torch.zeros(4, dtype=torch.long)),
        )


def test_invalid_options_are_reported_with_their_full_key() -> None:
    with pytest.raises(ValueError) as error:
        SpectrumOptions(estimator="arnoldi", steps=0, reorth="partial", check="curvlinops")
    assert str(error.value).splitlines() == [
        "method.spectrum.estimator='arnoldi' must be one of slq, dense, lanczos_extremes, diag",
        "method.spectrum.reorth='partial' must be one of full, none",
        "method.spectrum.check='curvlinops' must be one of none, pyhessian",
        "method.spectrum.steps=0 must be at least 1",
    ]
    with pytest.raises(
        ValueError,
        match=r"method\.mask\.subspace='steep' must be one of smoothed_curved, curved, flat, abs",
    ):
        Spectrum(subspace="steep")
    with pytest.raises(ValueError, match=r"take method\.hessian\.mode=eval"):
        Spectrum(hessian=HessianOptions(mode="train"), spectrum=SpectrumOptions(check="pyhessian"))
