"""Densities of spectra for figures: bins, masses of Gaussians, cuts, and their records."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from imc_cases import constant_task, quartic
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

from pruners.analysis.spectrum_curve import SpectrumCurve
from pruners.base import Measurement
from pruners.curvature.cuts import smoothed_k
from runner.errors import ConfigError
from runner.spec.identity import stage_keys

MLP = [w for w in SMALL if not w.startswith("env.")]
COARSE = SpectrumCurve(sigma2=1e-4, linear=0.01, limit=100.0, per_decade=2)


def ritz(probes: int = 3, m: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random Ritz values between -2 and 8, and weights that sum to one for each probe."""
    rng = Generator().manual_seed(seed)
    weights = torch.rand(probes, m, generator=rng, dtype=torch.float64)
    return (
        torch.rand(probes, m, generator=rng, dtype=torch.float64) * 10 - 2
    ).sort().values, weights / weights.sum(-1, keepdim=True)


def drawn(portrait: SpectrumCurve, values: Tensor, weights: Tensor, **report: Any) -> Measurement:
    found = {"spectrum": Measurement({"ritz_values": values, "ritz_weights": weights})}
    return portrait(
        nn.Linear(1, 1),
        {},
        constant_task(
            quartic, measured=found | ({"prune": Measurement(report=report)} if report else {})
        ),
    )


def masses(found: Measurement) -> list[float]:
    edges, density = found.series["spectrum_edges"], found.series["spectrum_density"]
    return [
        height * (high - low)
        for height, low, high in zip(density, edges[:-1], edges[1:], strict=True)
    ]


def test_bins_are_equal_near_zero_and_geometric_beyond() -> None:
    edges = COARSE.edges.tolist()
    ratio = 10**0.5  # two bins for each factor of ten, four factors of ten from 0.01 to 100
    positive = [0.005, 0.01, *(0.01 * ratio**i for i in range(1, 9))]
    assert edges == pytest.approx([-x for x in reversed(positive)] + [0.0] + positive, rel=1e-12)
    assert edges[len(positive)] == 0.0


def test_one_eigenvalue_gives_the_masses_of_a_gaussian() -> None:
    # The range of one value is 0 and counts as 1: sigma = sqrt(1e-4) = 0.01, so 0.005, 0.01, 0.0316
    # are 0.5, 1 and 3.16 sigma.
    found = drawn(COARSE, torch.zeros(1, 1), torch.ones(1, 1))
    half = [math.erf(s / 2**0.5) / 2 for s in (0.0, 0.5, 1.0, 10**0.5)]
    assert masses(found)[10:13] == pytest.approx(
        [b - a for a, b in zip(half, half[1:], strict=False)], rel=1e-9
    )
    assert masses(found)[7:10] == pytest.approx(masses(found)[10:13][::-1], rel=1e-9)
    assert found.report == {"spectrum_outside": pytest.approx(0.0, abs=1e-12)}


@pytest.mark.parametrize("seed", range(3))
def test_the_density_integrates_to_one_and_below_zero_to_the_smoothed_rules_share(
    seed: int,
) -> None:
    values, weights = ritz(seed=seed)
    found = drawn(SpectrumCurve(), values, weights)
    assert sum(masses(found)) == pytest.approx(1.0, abs=1e-12)
    below = sum(
        mass
        for mass, high in zip(masses(found), found.series["spectrum_edges"][1:], strict=True)
        if high <= 0
    )
    d = 10**9
    assert below == pytest.approx(smoothed_k(values, weights, d, 1e-5) / d, abs=1e-9)


def test_the_mass_beyond_the_outermost_edges_is_reported() -> None:
    found = drawn(
        COARSE, torch.tensor([[-500.0, 0.0, 1.0, 2000.0]]), torch.tensor([[0.1, 0.3, 0.4, 0.2]])
    )
    assert found.report["spectrum_outside"] == pytest.approx(0.3)
    assert sum(masses(found)) == pytest.approx(0.7)


def test_cuts_lie_midway_between_the_eigenvalues_that_they_separate() -> None:
    values, weights = torch.tensor([[-1.0, 0.0, 2.0, 5.0]]), torch.full((1, 4), 0.25)
    report = drawn(SpectrumCurve(), values, weights, k=1, literal_k=1, dimension=4).report
    # one of four is pruned on the flat side: the cut is in the middle of the first gap
    assert report["spectrum_cut"] == pytest.approx(-0.5)
    assert report["literal_cut"] == pytest.approx(3.5)  # the scan prunes the steepest one
    none = drawn(SpectrumCurve(), values, weights, k=3, literal_k=None, dimension=4).report
    assert none["spectrum_cut"] == pytest.approx(3.5) and none["literal_cut"] is None


def test_the_curve_has_standard_errors_and_the_distance_to_curves_of_fewer_steps() -> None:
    values, weights = ritz(probes=4, m=8)
    found = {
        "spectrum": Measurement(
            {"ritz_values": values, "ritz_weights": weights},
            {"spectrum_estimator": "slq", "dimension": 1000},
        ),
        "prune": Measurement(report={"k": 500, "literal_k": None, "dimension": 1000}),
    }
    curve = SpectrumCurve(per_decade=4)
    made = curve(nn.Linear(1, 1), {}, constant_task(quartic, measured=found))
    each = torch.stack(
        [
            curve.mass_below(v[None], w[None], curve.edges).diff()
            for v, w in zip(values, weights, strict=True)
        ]
    )
    expected = each.std(0) / 2 / curve.edges.diff()
    assert made.series["spectrum_density_se"] == pytest.approx(expected.tolist())
    # random values are far apart, so that half of the steps give quite another curve
    change = made.report["spectrum_density_change"]
    assert 0.01 < change <= 1 and made.report["spectrum_density_converged"] == 0
    assert made.report["spectrum_cut_converged"] == 0
    assert "literal_cut_converged" not in made.report


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.97])
def test_a_quantile_has_its_share_of_the_mass_below(share: float) -> None:
    values, weights = ritz()
    at = SpectrumCurve().quantile(values, weights, share)
    assert float(
        SpectrumCurve().mass_below(values, weights, torch.tensor([at], dtype=torch.float64))
    ) == pytest.approx(share, abs=2e-9)


@pytest.mark.parametrize(
    "wrong", [{"sigma2": 0.0}, {"linear": 0.0}, {"linear": 5.0, "limit": 1.0}, {"per_decade": 0}]
)
def test_invalid_bins_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="portrait.measure"):
        SpectrumCurve(**wrong)


def test_a_missing_spectrum_or_cut_is_named() -> None:
    with pytest.raises(ValueError, match=r"needs: \[spectrum, prune\]"):
        SpectrumCurve()(nn.Linear(1, 1), {}, constant_task(quartic))
    with pytest.raises(ValueError, match="reports no k"):
        drawn(SpectrumCurve(), *ritz(), found_density=0.5)


def test_the_spectrum_portrait_is_rejected_for_methods_without_a_spectrum() -> None:
    with pytest.raises(ConfigError, match="spectrum|gap"):
        compose_run("method=snip", "density=0.5", "portrait=spectrum", *MLP)


def test_the_spectrum_portrait_matches_the_record_and_changes_no_other_stage(
    tmp_path: Path,
) -> None:
    overrides = [
        "method=imc",
        *MLP,
        "train.lr=0.01",
        "method.spectrum.steps=12",
        "method.spectrum.probes=3",
        "method.lipschitz.directions=1",
        "method.gap.rule=smoothed_sign",
    ]
    plain, analysed = compose_run(*overrides), compose_run(*overrides, "portrait=spectrum")
    assert stage_keys(analysed).items() >= stage_keys(plain).items()
    made, artefacts = perform_run(analysed, machine(tmp_path))
    found = Measurement(series=artefacts["portrait"].meta["series"])
    below = sum(
        mass
        for mass, high in zip(masses(found), found.series["spectrum_edges"][1:], strict=True)
        if high <= 0
    )
    # k is rounded to a whole number
    assert below == pytest.approx(
        1 - made["report"]["smoothed_density"], abs=0.51 / made["prunable"]
    )
    # the rule that determines k cuts at 0
    assert made["report"]["spectrum_cut"] == pytest.approx(0.0, abs=1e-3)
