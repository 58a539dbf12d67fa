"""Empirical Bayes for IMC's leverages, and the expected overlap of the masks made from them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from imc_cases import Constant, constant_task, digits, make_task, mlp, quadratic, symmetric, train
from support import compose_run, machine, perform_run
from torch import Generator, nn

from models.mlp import Mlp
from models.resnet_cifar import ResNetCifar
from pruners.base import FixedMasking, Masks, Measurement, Scores, count_kept, full_masks
from pruners.curvature.cuts import smoothed_step
from pruners.curvature.imc import Imc, MaskOptions
from pruners.curvature.leverage import Posterior
from pruners.curvature.options import HessianOptions, SpectrumOptions
from pruners.curvature.select import select
from pruners.curvature.spectrum import Spectrum
from runner.errors import ConfigError

DOUBLE = HessianOptions(dtype="float64")
LIPSCHITZ = Measurement(report={"lipschitz": 1.0})
SHRUNK, RAW = (Imc(mask=MaskOptions(shrinkage=value)) for value in ("layer", "none"))
MAGNITUDE = Imc(mask=MaskOptions(rule="magnitude"))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def overlap(one: Masks, other: Masks) -> float:
    """Share of the kept weights of `one` that `other` keeps, too."""
    return count_kept({name: mask & other[name] for name, mask in one.items()}) / count_kept(one)


def pruned(imc: Imc, model: nn.Module, spectrum: Measurement, density: float) -> FixedMasking:
    """What the prune stage makes of a measured spectrum; the model is not changed."""
    weights = {name: t.clone() for name, t in model.state_dict().items()}
    task = make_task(
        *digits(), density=density, measured={"spectrum": spectrum, "lipschitz": LIPSCHITZ}
    )
    masking = imc(model, full_masks(model), task)
    model.load_state_dict(weights)
    return masking


# --- the posterior of a layer


@pytest.mark.parametrize(
    ("error", "mean", "variance"),
    [
        # estimates 0 and 2: m = 1 and r = 1
        (0.5, [0.5, 1.5], 0.25),  # tau = 1/2, s = 1/2
        (0.75, [0.75, 1.25], 0.1875),  # tau = s = 1/4
        (2.0, [1.0, 1.0], 0.0),  # more noise than spread
        (0.0, [0.0, 2.0], 0.0),  # exact estimates
    ],
)
def test_a_layer_is_shrunk_as_worked_by_hand(
    error: float, mean: list[float], variance: float
) -> None:
    found = Posterior.of(torch.tensor([[0.0, 2.0]]), error)
    assert found.mean.tolist() == [mean]
    assert found.variance == pytest.approx(variance)


def test_the_limit_of_a_layer_is_as_worked_by_hand() -> None:
    # estimates 0 and 2, r = 1: the standard error of tau is sqrt(2 (1 + v^2) / 2)
    x = torch.tensor([[0.0, 2.0]])
    for v, tau in ((2.0, 5**0.5), (0.75, 0.25 + 1.25)):
        s = tau / (tau + v)
        found = Posterior.of(x, v, wider=1.0)
        assert found.variance == pytest.approx(s * v)
        assert found.mean.flatten().tolist() == pytest.approx([1 - s, 1 + s])
    assert Posterior.of(x, 0.0, wider=1.0).variance == 0
    known = torch.tensor([[5.0, 6.0]])
    assert Posterior.of(x + known, 2.0, known, wider=1.0).variance == pytest.approx(
        Posterior.of(x, 2.0, wider=1.0).variance
    )


def test_a_known_part_is_not_shrunk() -> None:
    # the rests 0 and 2 are shrunk to 1/2 and 3/2 as above, the known parts 10 and 20 stay
    found = Posterior.of(torch.tensor([[10.0, 22.0]]), 0.5, torch.tensor([[10.0, 20.0]]))
    assert found.mean.tolist() == [[10.5, 21.5]]
    assert found.variance == pytest.approx(0.25)


def test_draws_have_the_mean_and_the_variance_of_the_posterior() -> None:
    found = Posterior(torch.full((100, 1000), 0.5), 0.04)
    drawn = found.draw(seeded(0))
    assert float(drawn.mean()) == pytest.approx(0.5, abs=4 * 0.2 / 316)
    assert float(drawn.var()) == pytest.approx(0.04, rel=4 * (2 / 1e5) ** 0.5)


def test_exact_leverages_are_not_changed_by_a_bit() -> None:
    exact = torch.rand(1000, generator=seeded(0))
    assert torch.equal(Posterior.of(exact, 0.0).mean, exact)
    assert torch.equal(Posterior.of(exact, 0.0).draw(seeded(1)), exact)


# --- its errors, as the stage `spectrum` measures them


def test_the_variance_is_that_of_the_mean_over_the_probes() -> None:
    # With as many steps as dimensions f(H) z is exact, so each probe's leverage is known.
    h, probes = symmetric(torch.linspace(-1, 3, 20)), 6
    values, vectors = torch.linalg.eigh(h)
    f = vectors @ torch.diag(smoothed_step(values, 1e-5)) @ vectors.T
    signs = torch.stack(
        [
            (torch.randint(0, 2, (20,), generator=rng) * 2 - 1).double()
            for rng in [seeded(3)]
            for _ in range(probes)
        ]
    )
    expected = float((signs * (signs @ f)).var(0).mean() / probes)
    spectrum = Spectrum(DOUBLE, SpectrumOptions(steps=20, probes=probes))
    model = Constant(torch.ones(20, dtype=torch.float64))
    found = spectrum(model, full_masks(model), constant_task(quadratic(h), seed=3))
    assert float(found.tensors["leverage_variance/layer.weight"]) == pytest.approx(
        expected, rel=1e-8
    )


def test_one_probe_has_no_variance_and_the_dense_estimator_has_none_to_report() -> None:
    model = mlp()
    one, dense = (
        Spectrum(DOUBLE, options)(model, full_masks(model), make_task(*digits()))
        for options in (SpectrumOptions(steps=5, probes=1), SpectrumOptions(estimator="dense"))
    )
    assert not any(name.startswith("leverage_variance") for name in one.tensors)
    assert "mask_overlap" not in pruned(RAW, model, one, 0.3).report
    assert float(dense.tensors["leverage_variance/1.weight"]) == 0.0
    report = pruned(SHRUNK, model, dense, 0.3).report
    assert (report["mask_overlap"], report["mask_overlap_se"]) == (1.0, 0.0)


def test_the_shrinkage_is_no_part_of_the_identity_of_the_measurement() -> None:
    assert Spectrum(mask_rule="leverage", shrinkage="layer") == Spectrum()
    assert MaskOptions(rule="obd", shrinkage="layer") == MaskOptions(rule="obd")
    assert MaskOptions(shrinkage="layer") != MaskOptions()


# --- simulation with known leverages

SIZES = (300, 2000, 5000, 12000)


class Case:
    """Layers with drawn means, variances within layers and noise; ten probes of each weight."""

    def __init__(self, seed: int, spread: float, noise: float, probes: int = 10) -> None:
        rng = seeded(seed)
        self.model = nn.Sequential(*(nn.Linear(n, 1, bias=False) for n in SIZES))
        self.exact: Scores = {}
        self.spectrum = Measurement(
            tensors={
                "ritz_values": torch.tensor([[-1.0, 1.0]], dtype=torch.float64),
                "ritz_weights": torch.full((1, 2), 0.5, dtype=torch.float64),
            },
            report={"dimension": sum(SIZES), "subspace": "smoothed_curved"},
        )
        for name, w in self.model.named_parameters():
            w.data = torch.randn(w.shape, generator=rng)
            mean = 0.5 + 0.1 * torch.rand(1, generator=rng)
            within = spread * (0.5 + torch.rand(1, generator=rng))
            self.exact[name] = mean + within * torch.randn(w.shape, generator=rng)
            # noise that is not normal: uniform, of standard deviation `noise`
            drawn = torch.rand(probes, *w.shape, generator=rng) * 12**0.5 - 3**0.5
            samples = self.exact[name] + noise * drawn
            self.spectrum.tensors[f"leverage/{name}"] = samples.mean(0)
            variance = samples.double().var(0).mean() / probes
            self.spectrum.tensors[f"leverage_variance/{name}"] = variance

    def exact_mask(self, density: float) -> Masks:
        scores = {n: t * self.model.get_parameter(n).detach() ** 2 for n, t in self.exact.items()}
        return select(scores, full_masks(self.model), round(density * sum(SIZES)))

    def error(self, leverages: Scores) -> float:
        """Root of the mean squared error, all weights together."""
        off = torch.cat([(leverages[n] - t).flatten() for n, t in self.exact.items()])
        return float(off.square().mean().sqrt())


CASES = [(0.005, 0.15), (0.02, 0.15), (0.034, 0.18), (0.03, 0.03), (0.0, 0.15)]


@pytest.mark.parametrize(("spread", "noise"), CASES)
def test_shrunk_leverages_are_nearer_to_the_exact_ones_than_raw_ones_and_a_constant(
    spread: float, noise: float
) -> None:
    case = Case(0, spread, noise)
    raw = {n: case.spectrum.tensors[f"leverage/{n}"] for n in case.exact}
    shrunk = {
        n: Posterior.of(t, float(case.spectrum.tensors[f"leverage_variance/{n}"])).mean
        for n, t in raw.items()
    }
    mean = float(torch.cat([t.flatten() for t in case.exact.values()]).mean())  # magnitude's
    constant = {n: torch.full_like(t, mean) for n, t in raw.items()}
    assert case.error(shrunk) < 0.95 * case.error(raw)
    assert case.error(shrunk) < 0.95 * case.error(constant)
    if spread:  # the best linear estimate has the variance tau v / (tau + v)
        v, expected = noise**2 / 10, 0.0
        for exact in case.exact.values():
            tau = float(exact.var())
            expected += exact.numel() / sum(SIZES) * tau * v / (tau + v)
        assert case.error(shrunk) == pytest.approx(expected**0.5, rel=0.05)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("density", [0.53, 0.1, 0.05])
@pytest.mark.parametrize(("spread", "noise"), CASES)
def test_the_stated_overlap_is_within_a_hundredth_of_the_true_one(
    spread: float, noise: float, density: float, seed: int
) -> None:
    case = Case(seed, spread, noise)
    exact = case.exact_mask(density)
    found: dict[str, float] = {}
    for name, imc in (("shrunk", SHRUNK), ("raw", RAW)):
        masking = pruned(imc, case.model, case.spectrum, density)
        found[name] = overlap(masking.masks, exact)
        assert masking.report["mask_overlap"] == pytest.approx(found[name], abs=0.01)
        assert 0 <= masking.report["mask_overlap_se"] < 0.002
    magnitude = pruned(MAGNITUDE, case.model, case.spectrum, density)
    assert "mask_overlap" not in magnitude.report
    assert found["shrunk"] >= max(found["raw"], overlap(magnitude.masks, exact)) - 0.001


@pytest.mark.parametrize("density", [0.53, 0.1])
@pytest.mark.parametrize("spread", [0.0, 0.005, 0.02])
def test_two_probes_claim_no_more_than_they_know(spread: float, density: float) -> None:
    # noise of 0.3 hides most spreads: the overlap is stated as 1 where it may be 0.98
    for seed in range(4):
        case = Case(seed, spread, 0.3, probes=2)
        masking = pruned(SHRUNK, case.model, case.spectrum, density)
        true = overlap(masking.masks, case.exact_mask(density))
        least, stated = (masking.report[f"mask_overlap{part}"] for part in ("_least", ""))
        assert isinstance(least, float) and isinstance(stated, float)
        assert 0.9 < least <= min(stated, true + 0.003)
        assert least < 0.999 and masking.report["mask_overlap_of"] == "probes"


# --- nets whose Hessian is built column by column


def default() -> SpectrumOptions:
    """How the default command measures a spectrum: 110 products."""
    component = compose_run("method=imc", "model=resnet20").stage("spectrum").component
    assert isinstance(component, Spectrum)
    assert component.work(10_000, 10_000, 400).products == 110
    return component.spectrum


def tanh() -> nn.Module:
    """64-30-10: 2,220 weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 30), nn.Tanh(), nn.Linear(30, 10)]
        return nn.Sequential(*layers)


def relu() -> nn.Module:
    """64-30-20-10: 2,720 weights."""
    return Mlp("mlp", (30, 20))(1, 10, 8, seeded(0))


def residual() -> nn.Module:
    """ResNet-8 of width 2 with BatchNorm: 1,290 weights."""
    return ResNetCifar("net", depth=8, width=2)(1, 10, 8, seeded(0))


@dataclass(frozen=True)
class Net:
    """A trained net, its exact spectrum (float64), and those of several seeds of the probes.

    Args:
        few: the exact spectrum of 128 of the 400 images.
    """

    model: nn.Module
    exact: Measurement
    few: Measurement
    sampled: list[Measurement]


@cache
def measured(make: Callable[[], nn.Module], seeds: int) -> Net:
    """A net on 400 digits, its spectrum measured as by default."""
    model = train(make(), steps=100).eval()
    masks, options, dense = full_masks(model), default(), SpectrumOptions(estimator="dense")
    return Net(
        model,
        Spectrum(DOUBLE, dense)(model, masks, make_task(*digits())),
        Spectrum(replace(DOUBLE, n_samples=128), dense)(model, masks, make_task(*digits())),
        [
            Spectrum(spectrum=options)(model, masks, make_task(*digits(), seed=seed))
            for seed in range(seeds)
        ],
    )


def described(net: Net) -> str:
    """How the exact leverage varies between and within layers, and the error of an estimate."""
    layers = [t.double() for name, t in net.exact.tensors.items() if name.startswith("leverage/")]
    noise = [
        float(t) ** 0.5
        for name, t in net.sampled[0].tensors.items()
        if name.startswith("leverage_variance/")
    ]
    means, within = ([float(f(t)) for t in layers] for f in (torch.mean, torch.std))
    return (
        f"layers' means {min(means):.3f} to {max(means):.3f}, standard deviation in a layer"
        f" {min(within):.3f} to {max(within):.3f}, error {min(noise):.3f} to {max(noise):.3f}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("density", "wanted"),
    [(0.53, 0.99), (0.1, 0.97)],
)
@pytest.mark.parametrize("make", [tanh, relu, residual])
def test_the_products_of_the_default_find_the_exact_mask_of_a_trained_net(
    make: Callable[[], nn.Module], density: float, wanted: float
) -> None:
    """Means over the seeds, since one weight is half a per cent of the smallest masks."""
    net, seeds = measured(make, 3), 3
    best = pruned(RAW, net.model, net.exact, density).masks

    def means(imc: Imc) -> tuple[float, float, float]:
        """Overlap with the exact mask; what the report states and its limit (NaN for magnitude)."""
        found = [pruned(imc, net.model, spectrum, density) for spectrum in net.sampled]
        stated, limit = (
            sum(m.report.get(f"mask_overlap{part}", math.nan) for m in found) / seeds
            for part in ("", "_least")
        )
        return sum(overlap(m.masks, best) for m in found) / seeds, stated, limit

    shrunk, stated, least = means(SHRUNK)
    (raw, raw_stated, _), (magnitude, *_) = means(RAW), means(MAGNITUDE)
    images = overlap(pruned(RAW, net.model, net.few, density).masks, best)
    print(
        f"\n{make.__name__}, density {density}: magnitude {magnitude:.4f},"
        f" raw {raw:.4f} (stated {raw_stated:.4f}), shrunk {shrunk:.4f} (stated {stated:.4f}, at"
        f" least {least:.4f}), exact masks of 128 and of 400 images {images:.4f}; {described(net)}"
    )
    assert shrunk >= wanted
    assert shrunk >= max(magnitude, raw) - 0.003
    assert stated == pytest.approx(shrunk, abs=0.01)
    assert least <= shrunk


# --- seeds and refusals


def test_equal_seeds_give_equal_overlaps_and_the_mask_does_not_depend_on_them() -> None:
    case = Case(0, 0.02, 0.15)
    one, two = (pruned(SHRUNK, case.model, case.spectrum, 0.2) for _ in range(2))
    assert one.report == two.report
    assert overlap(one.masks, two.masks) == 1.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.spectrum.probes=1"], "method.spectrum.probes=1 does not give: take slq with at"),
        (["method.spectrum.estimator=diag"], "method.spectrum.estimator=diag with"),
        (["method.mask.subspace=curved"], "is for method.mask.subspace=smoothed_curved"),
    ],
)
def test_a_shrinkage_without_errors_is_refused_before_any_work(
    overrides: list[str], message: str
) -> None:
    given = ["method=imc", "dataset=digits", "model=mlp", "density=0.5", *overrides]
    compose_run(*given)
    compose_run(*given, "method.mask.shrinkage=layer", "method.mask.rule=magnitude")
    with pytest.raises(ConfigError, match=message):
        compose_run(*given, "method.mask.shrinkage=layer")


def test_both_shrinkages_share_the_measured_spectrum_and_differ_in_the_mask() -> None:
    given = ["method=imc", "dataset=digits", "model=mlp", "density=0.5"]
    plain, shrunk = (
        compose_run(*given, f"method.mask.shrinkage={value}") for value in ("none", "layer")
    )
    assert shrunk == compose_run(*given)
    assert plain.stage("spectrum") == shrunk.stage("spectrum")
    assert plain.stage("prune") != shrunk.stage("prune")


def test_a_run_states_the_overlap_in_its_record(tmp_path: Path) -> None:
    run = compose_run(
        "method=imc",
        "dataset=digits",
        "model=mlp",
        "model.hidden=[16]",
        "train.scale=0.0125",
        "density=0.3",
        "method.spectrum.steps=5",
        "method.spectrum.probes=3",
        "method.hessian.n_samples=32",
        "method.lipschitz.directions=1",
        "method.mask.shrinkage=layer",
    )
    report = perform_run(run, machine(tmp_path))[0]["report"]
    assert 0.5 < report["mask_overlap"] <= 1
    assert 0 <= report["mask_overlap_se"] < 0.05


def test_an_unknown_shrinkage_names_the_choices() -> None:
    with pytest.raises(
        ValueError, match="method.mask.shrinkage='net' must be one of none, layer, auto"
    ):
        MaskOptions(shrinkage="net")


def test_a_spectrum_of_the_cache_without_errors_is_refused_with_a_way_out() -> None:
    case = Case(0, 0.02, 0.15)
    old = replace(
        case.spectrum,
        tensors={n: t for n, t in case.spectrum.tensors.items() if "variance" not in n},
    )
    with pytest.raises(ValueError, match="measured without them: delete the folder of the stage"):
        pruned(SHRUNK, case.model, old, 0.2)
    assert "mask_overlap" not in pruned(RAW, case.model, old, 0.2).report
