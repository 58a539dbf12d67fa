"""Leverages from one long Lanczos run and short ones without its eigenvectors."""

import pytest
import torch
from imc_cases import Constant, constant_task, quadratic, symmetric
from support import compose_run
from torch import Generator, Tensor

from pruners.base import Measurement, full_masks
from pruners.curvature.cuts import smoothed_step
from pruners.curvature.imc import Imc, MaskOptions
from pruners.curvature.options import HessianOptions, SpectrumOptions
from pruners.curvature.spectrum import Spectrum

DOUBLE = HessianOptions(dtype="float64")
# Three outliers far from a bulk in which f, of width 0.0095, varies around 1/2.
OUTLIERS = torch.tensor([4.0, 6.0, 9.0])
SPECTRUM = torch.cat([torch.linspace(-0.02, 0.03, 57), OUTLIERS])
NARROW = torch.cat([torch.linspace(-0.002, 0.003, 57), OUTLIERS])  # f is nearly 1/2 there


def measured(h: Tensor, seed: int = 3, **options: int | None) -> Measurement:
    """What the stage finds at the weights (1, ..., 1)."""
    model = Constant(torch.ones(len(h), dtype=torch.float64))
    spectrum = Spectrum(DOUBLE, SpectrumOptions(**options))  # type: ignore[arg-type]
    return spectrum(model, full_masks(model), constant_task(quadratic(h), seed=seed))


def sign_vectors(d: int, count: int, seed: int = 3) -> Tensor:
    """The probes of a stage with this seed, (count, d)."""
    rng = Generator().manual_seed(seed)
    return torch.stack(
        [(torch.randint(0, 2, (d,), generator=rng) * 2 - 1).double() for _ in range(count)]
    )


def test_the_parts_are_those_of_the_formula_with_eigenvectors_from_eigh() -> None:
    # Eight steps find the three outliers and nothing else; the bulk's part follows from eigh, as
    # far as the steps of the other probes resolve it: all of it with as many steps as dimensions.
    h, probes = symmetric(SPECTRUM), 4
    found = measured(h, steps=8, probes=probes, deflated_steps=60)
    values, vectors = torch.linalg.eigh(h)
    ritz = found.tensors["ritz_values"]
    assert ritz.shape == (1, 8)
    width = (1e-5 * (ritz.max() - ritz.min())).sqrt()
    g = torch.special.ndtr(values / width) - 0.5
    bulk = vectors[:, :-3] @ torch.diag(g[:-3]) @ vectors[:, :-3].T
    signs = sign_vectors(60, probes)
    samples = signs * (signs @ bulk)
    known = 0.5 + vectors[:, -3:] ** 2 @ g[-3:]
    # of the first probe, whose bulk the long run knows from a few steps only
    first = (found.tensors["leverage/layer.weight"].flatten().double() - known) * probes
    first -= samples[1:].sum(0)
    assert float((first - samples[0]).abs().mean()) < 0.5 * float(samples[0].abs().mean())
    everything = torch.cat([first[None], samples[1:]])
    assert float(found.tensors["leverage_variance/layer.weight"]) == pytest.approx(
        float(everything.var(0).mean() / probes), rel=1e-4
    )


def test_diagonal_and_trace_are_the_outliers_part_and_a_mean_over_the_rest() -> None:
    h, probes = symmetric(SPECTRUM), 4
    found = measured(h, steps=12, probes=probes, deflated_steps=5)
    values, vectors = torch.linalg.eigh(h)
    bulk = vectors[:, :-3] @ torch.diag(values[:-3]) @ vectors[:, :-3].T
    signs = sign_vectors(60, probes)
    rest = signs * (signs @ bulk)
    diagonal = vectors[:, -3:] ** 2 @ values[-3:] + rest.mean(0)
    assert torch.allclose(
        found.tensors["diagonal/layer.weight"].flatten().double(), diagonal, atol=1e-4
    )
    traces = 19.0 + rest.sum(1)
    assert found.report["trace"] == pytest.approx(float(traces.mean()), rel=1e-4)
    assert found.report["trace_se"] == pytest.approx(float(traces.std()) / 2, rel=1e-3)


def test_the_leverages_sum_to_the_number_that_the_runs_state() -> None:
    found = measured(symmetric(SPECTRUM), steps=20, probes=5, deflated_steps=6)
    assert found.report["leverage_ratio"] == pytest.approx(1.0, abs=1e-6)


def test_the_estimate_has_no_bias_and_less_noise_than_plain_probes() -> None:
    h = symmetric(NARROW)
    values, vectors = torch.linalg.eigh(h)
    exact = vectors**2 @ smoothed_step(values, 1e-5)

    def errors(deflated_steps: int | None) -> Tensor:
        rows = [
            measured(h, seed, steps=12, probes=3, deflated_steps=deflated_steps)
            for seed in range(40)
        ]
        return torch.stack([r.tensors["leverage/layer.weight"].flatten() for r in rows]) - exact

    ours, plain = errors(5), errors(None)
    error = ours.std() / 40**0.5
    assert float(ours.mean(0).abs().max()) < 5 * float(error)
    assert float(ours.square().mean().sqrt()) < 0.5 * float(plain.square().mean().sqrt())


def test_a_net_without_a_rest_has_exact_leverages() -> None:
    # Five different eigenvalues in five dimensions: the long run finds all of them.
    h = symmetric(torch.tensor([-1.0, 0.5, 1.0, 2.0, 4.0]))
    found = measured(h, steps=5, probes=3, deflated_steps=2)
    values, vectors = torch.linalg.eigh(h)
    exact = vectors**2 @ smoothed_step(values, 1e-5)
    assert torch.allclose(found.tensors["leverage/layer.weight"].flatten(), exact.float())
    assert float(found.tensors["leverage_variance/layer.weight"]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("subspace", ["curved", "flat", "abs"])
def test_where_nothing_is_deflated_the_option_is_no_part_of_the_identity(subspace: str) -> None:
    ours, plain = SpectrumOptions(deflated_steps=10), SpectrumOptions()
    assert Spectrum(spectrum=ours) != Spectrum(spectrum=plain)
    hard = [Spectrum(spectrum=s, subspace=subspace, density=0.5) for s in (ours, plain)]
    assert hard[0] == hard[1]
    one = [
        Spectrum(spectrum=SpectrumOptions(probes=1, deflated_steps=steps)) for steps in (10, None)
    ]
    assert one[0] == one[1]


def test_the_work_counts_the_products_that_are_taken() -> None:
    spectrum = Spectrum(spectrum=SpectrumOptions(steps=100, probes=3, deflated_steps=10))
    assert spectrum.work(1000, 1100, 5000).products == 120
    projected = Spectrum(
        spectrum=SpectrumOptions(steps=100, probes=3, deflated_steps=10),
        mask_rule="projected_weight",
    )
    assert projected.work(1000, 1100, 5000).products == 220


def test_auto_shrinks_where_the_errors_are_known_and_has_no_id_of_its_own() -> None:
    auto, layer = MaskOptions(shrinkage="auto"), MaskOptions(shrinkage="layer")
    assert Imc(mask=auto) == Imc(mask=layer)
    assert Imc(mask=auto, spectrum=SpectrumOptions(probes=1)) == Imc()
    assert Imc(mask=auto, spectrum=SpectrumOptions(estimator="diag")) == Imc()
    assert Imc(mask=auto, spectrum=SpectrumOptions(estimator="dense")) == Imc(mask=layer)
    hard = MaskOptions(shrinkage="auto", subspace="curved")
    assert Imc(mask=hard) == Imc(mask=MaskOptions(subspace="curved"))


@pytest.mark.parametrize(
    ("overrides", "shrinkage"),
    [
        ([], "layer"),
        (["method.spectrum.probes=1"], "none"),
        (["method.spectrum.estimator=diag"], "none"),
        (["method.spectrum.estimator=lanczos_extremes"], "none"),
        (["method.mask.subspace=curved"], "none"),
    ],
)
def test_every_kind_of_spectrum_works_with_the_default_shrinkage(
    overrides: list[str], shrinkage: str
) -> None:
    run = compose_run("method=imc", "dataset=digits", "model=mlp", "density=0.5", *overrides)
    component = run.stage("prune").component
    assert isinstance(component, Imc)
    assert component.mask.shrinkage == shrinkage
