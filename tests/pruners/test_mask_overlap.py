"""`mask_overlap`: against simulations with known scores, and against nets scored on more images."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.datasets import load_digits
from small_nets import images, mlp, pruner, resnet, seeded, state_check, task
from torch import Tensor, nn
from torch.nn import functional as F

from models.resnet_cifar import ResNetCifar
from pruners.analysis.mask_overlap import MaskOverlap
from pruners.analysis.ranking import chosen
from pruners.analysis.split_half import from_split_halves, noise, overlap_at, overlap_of_masks
from pruners.base import (
    CONVERGED,
    STANDARD_ERROR,
    Batch,
    Masks,
    Scores,
    full_masks,
    keep_count,
)
from pruners.curvature.leverage import OVERLAP, expected_overlap
from pruners.scores.flow import FlowMeasure, Measure
from pruners.scores.grasp import Grasp
from pruners.scores.magnitude import Magnitude, Random
from pruners.scores.obd import Obd
from pruners.scores.snip import Snip
from pruners.scores.synflow import SynFlow
from pruners.search.init import Init
from pruners.search.popup import SrPopup
from pruners.selection.allocate import Global
from pruners.selection.parts import Parts, Spread, deviation_of, further_samples, in_parts, united
from pruners.selection.pick import Uniform
from pruners.selection.posterior import Posterior, _roots
from pruners.selection.ranks import largest
from pruners.selection.schedule import Exponential
from pruners.selection.source import Chi, Ones

PARTS = 16


def simulated(n: int, signal: float, seed: int, shape: str) -> tuple[Tensor, Tensor]:
    """True scores (n,) and those of parts (PARTS, n) with noise of very different sizes.

    The mean of all parts has noise of size one, times the size of its weight.
    """
    rng = seeded(seed)
    normal = torch.randn(n, generator=rng, dtype=torch.float64)
    forms = {
        "normal": normal,
        "heavy": normal * torch.randn(n, generator=rng, dtype=torch.float64).exp(),
        "positive": normal.exp(),
        "sparse": normal * torch.where(torch.rand(n, generator=rng) < 0.1, 3.0, 0.1),
    }
    size = torch.randn(n, generator=rng, dtype=torch.float64).exp()
    noise = torch.randn(PARTS, n, generator=rng, dtype=torch.float64) * math.sqrt(PARTS)
    true = signal * forms[shape] * size
    return true, true + noise * size


def stated(x: Tensor, variance: Tensor, density: float) -> tuple[float, Tensor]:
    """`mask_overlap` of the largest |x|, and that mask."""
    posterior, rng, kept = Posterior.of(x, variance, PARTS), seeded(2), keep_count(density, len(x))
    ours = {"w": largest(x.abs(), kept)}
    found = expected_overlap(ours, lambda: {"w": largest(posterior.draw(rng).abs(), kept)})
    overlap = found[OVERLAP]
    assert isinstance(overlap, float)
    return overlap, ours["w"]


@pytest.mark.parametrize(
    ("shape", "signal"),
    [(shape, signal) for shape in ("normal", "heavy", "positive") for signal in (0.5, 1, 3, 30)]
    + [("sparse", 3), ("sparse", 30)],
)
def test_the_overlap_with_the_true_scores_is_stated(shape: str, signal: float) -> None:
    true, parts = simulated(20_000, signal, 1, shape)
    x, spread = parts.mean(0), Spread()
    for part in parts:
        spread.add({"w": part}, {"w": x})
    variance = spread.variance(PARTS)["w"]
    for density in (0.5, 0.1, 0.02):
        overlap, ours = stated(x, variance, density)
        kept = int(ours.sum())
        exact = int((ours & largest(true.abs(), kept)).sum()) / kept
        sampling = 2.5 * math.sqrt(exact * (1 - exact) / kept)  # of the simulated overlap
        assert overlap == pytest.approx(exact, abs=0.02 + sampling)


def test_without_signal_the_overlap_is_that_of_chance() -> None:
    rng = seeded()
    noise = torch.randn(PARTS, 20_000, generator=rng, dtype=torch.float64)
    for density in (0.5, 0.1):
        overlap, _ = stated(noise.mean(0), noise.var(0) / PARTS, density)
        assert density - 0.02 < overlap < density + 0.08


def test_without_noise_the_overlap_is_one() -> None:
    x = torch.randn(1000, generator=seeded(), dtype=torch.float64)
    assert stated(x, torch.zeros(1000), 0.1)[0] == 1


@pytest.mark.parametrize("freedom", [3, 15])
def test_the_estimated_errors_follow_chi_squared(freedom: int) -> None:
    u = _roots(freedom)
    quantiles = chi2.ppf((np.arange(len(u)) + 0.5) / len(u), freedom)
    np.testing.assert_allclose(freedom * u.numpy() ** 2, quantiles, rtol=1e-9)


def test_the_spread_of_parts_gives_the_variance_of_their_mean() -> None:
    values = torch.randn(PARTS, 7, generator=seeded(), dtype=torch.float64)
    mean = {"w": values.mean(0)}
    spreads = [Spread(), Spread()]
    for number, value in enumerate(values):
        spreads[number % 2].add({"w": value}, mean)
    left = torch.stack([deviation_of({"w": value}, mean)[1]["w"] for value in values])
    torch.testing.assert_close(united(spreads).variance(PARTS)["w"], left.var(0) / PARTS)
    torch.testing.assert_close(spreads[1].mean(mean)["w"], values[1::2].mean(0))


def test_a_common_factor_is_no_deviation() -> None:
    whole = {"a": torch.randn(5, generator=seeded()), "b": torch.randn(3, generator=seeded(1))}
    factor, left = deviation_of({name: 1.7 * t for name, t in whole.items()}, whole)
    assert factor == pytest.approx(1.7) and all(t.abs().max() < 1e-6 for t in left.values())


def parts_of(sizes: list[int], most: int, by_class: bool = False) -> Parts:
    x, y = torch.arange(sum(sizes)), torch.arange(sum(sizes)) // 2 % 3

    def batches() -> Iterator[Batch]:
        return iter(list(zip(x.split(sizes), y.split(sizes), strict=True)))

    return Parts(batches, most, by_class)


@pytest.mark.parametrize(
    ("sizes", "by_class"), [([12], False), ([5, 4, 3], False), ([4] * 6, False), ([36], True)]
)
def test_each_image_belongs_to_one_part(sizes: list[int], by_class: bool) -> None:
    parts = parts_of(sizes, 4, by_class)
    found = list(in_parts(parts))
    alone = [[int(i) for x, _ in part for i in x] for part in found]
    assert parts.count == 4 and sorted(i for part in alone for i in part) == [*range(sum(sizes))]
    if len(sizes) == 6:  # enough batches: they stay whole
        assert [len(x) for part in found for x, _ in part] == [4] * 6
    if by_class:
        labels = [torch.cat([y for _, y in part]) for part in found]
        assert all(torch.bincount(y).tolist() == [3, 3, 3] for y in labels)


def test_further_samples_are_disjoint_and_of_equal_size() -> None:
    data = parts_of([4] * 9 + [3], 4).batches
    found = list(further_samples(list(data()), lambda batches: islice(batches, 2), 16))
    images = [[int(i) for x, _ in sample for i in x] for sample in found]
    assert images == [[*range(8 * k, 8 * k + 8)] for k in (1, 2, 3)]


FLOW = [FlowMeasure(measure, 1, 5.0) for measure in get_args(Measure)]
SCORES = [Snip(bn="eval"), Snip(), Grasp(), Obd(images=32), SynFlow(), *FLOW]


@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_the_mask_is_that_of_the_prune_stage_and_the_net_stays_as_it_is(score: Any) -> None:
    model, data = resnet(), images(288)
    measure = MaskOverlap(pruner(score, batch_size=32), density=0.2, parts=8)
    unchanged = state_check(model)
    sample = measure.sample(model, full_masks(model), task(None, data))
    whole, spreads = sample.measured()
    ours = sample.chosen(whole)
    assert sum(spread.count for spread in spreads) == 8 and unchanged()
    pruned = pruner(score, batch_size=32)(model, full_masks(model), task(0.2, data)).masks
    assert all(torch.equal(ours[name], pruned[name]) for name in pruned)


@pytest.mark.parametrize(
    "score",
    [Snip(bn="eval"), SynFlow(), *FLOW[:2]],
    ids=["snip", "synflow", *get_args(Measure)[:2]],
)
def test_scores_of_parts_add_up(score: Any) -> None:
    model, (x, y) = mlp(), images(32)
    masks = full_masks(model)

    def signed(*batches: Batch) -> Scores:
        found: Scores = score.signed(model, masks, batches, F.cross_entropy, seeded())
        return found

    whole, one, two = signed((x, y)), signed((x[:16], y[:16])), signed((x[16:], y[16:]))
    for name, s in whole.items():
        torch.testing.assert_close((one[name] + two[name]) / 2, s, rtol=1e-4, atol=1e-7)


def test_too_few_images_give_no_overlap() -> None:
    model, data = mlp(), images(3)
    measure = MaskOverlap(pruner(Snip(bn="eval"), batch_size=3), density=0.2, parts=8)
    found = measure(model, full_masks(model), task(None, data)).report
    assert found == {"mask_overlap": None, "mask_overlap_parts": 3}


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (Random(), {}, "Random is no mean over images"),
        (Obd("hutchinson"), {}, "Obd is no mean over images"),
        (SynFlow(), {"source": Chi()}, "source=chi is one image"),
        (Snip(), {"pick": Uniform()}, "needs pick=top"),
    ],
)
def test_what_has_no_overlap_is_refused(score: Any, options: Any, message: str) -> None:
    MaskOverlap(pruner(score, **options))  # left out
    assert not MaskOverlap(pruner(score, **options), density=0.1, parts="auto").applies
    with pytest.raises(ValueError, match=f"method.overlap=16.*{message}"):
        MaskOverlap(pruner(score, **options), density=0.1, parts=16)


@pytest.mark.parametrize(
    ("score", "options"),
    [(Magnitude(), {}), (SynFlow(), {"source": Ones(), "schedule": Exponential(3)})],
    ids=["magnitude", "synflow"],
)
def test_a_mask_that_samples_nothing_is_all_signal(score: Any, options: Any) -> None:
    measure = MaskOverlap(pruner(score, **options), density=0.1, parts=16)
    found = measure(mlp(), full_masks(mlp()), task(None)).report
    assert found == {"mask_overlap": 1.0, "mask_overlap_se": 0.0, "mask_overlap_parts": 0}
    assert not MaskOverlap(pruner(score, **options), density=0.1, parts="auto").applies


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
@pytest.mark.parametrize("budgets", ["magnitude", "criterion"])
def test_the_first_mask_of_a_search_is_measured(criterion: Any, budgets: Any) -> None:
    model, data = mlp(), images(288)
    options: dict[str, Any] = {"batch_size": 32} if criterion == "snip" else {"per_class": 1}
    init = Init(criterion, budgets=budgets, **options)
    search = SrPopup(Global(), init)
    sample = MaskOverlap(search, density=0.2, parts=8).sample(
        model, full_masks(model), task(None, data, classes=10)
    )
    ours = sample.chosen(sample.measured()[0])
    first = search(model, full_masks(model), task(0.2, data, classes=10, epochs=1)).masks
    assert first.keys() == ours.keys()
    assert all(torch.equal(ours[name], mask) for name, mask in first.items())


def test_auto_is_equal_to_the_usual_number() -> None:
    auto = MaskOverlap(pruner(Snip()), density=0.1, parts="auto")
    stated = MaskOverlap(pruner(Snip()), density=0.1, parts=16)
    assert auto == stated and auto.optional and not stated.optional
    assert auto.applies and stated.applies


def test_a_spread_needs_four_parts() -> None:
    with pytest.raises(ValueError, match="method.overlap=3 must be at least 4"):
        MaskOverlap(pruner(Snip()), density=0.1, parts=3)


@dataclass(frozen=True)
class Pixels:
    """The score of a weight is the mean of a pixel of the images, so that it can be simulated."""

    tag: ClassVar[str] = "pixels"
    positive: bool
    additive: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        return iter(batches)

    def signed(self, model: nn.Module, masks: Masks, batches: Any, *rest: Any) -> Scores:
        x = torch.cat([images for images, _ in batches])
        return {name: x.mean(0).view_as(mask) for name, mask in masks.items()}

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        return {name: s.abs() for name, s in signed.items()}

    __call__ = signed


def squares(n: int, count: int, kind: str) -> tuple[Tensor, Tensor]:
    """Means (n,) and images (count, n) of terms >= 0 around them."""
    rng = seeded(4)
    true = torch.randn(n, generator=rng).exp()
    e = torch.randn(count, n, generator=rng)
    if kind == "rare":  # one image in ten has a term
        terms = 10 * e**2 * (torch.rand(count, n, generator=rng) < 0.1)
    else:
        terms = {"squares": e**2, "heavy": (1.5 * e - 1.125).exp()}[kind]
    return true, true * terms


@pytest.mark.parametrize("kind", ["squares", "heavy", "rare"])
@pytest.mark.parametrize("density", [0.5, 0.1, 0.05])
def test_the_overlap_of_means_of_squares_is_stated_and_that_of_a_spread_is_not(
    kind: str, density: float
) -> None:
    true, x = squares(10_000, 64, kind)
    model, data = nn.Linear(10_000, 1, bias=False), (x.view(64, 1, 100, 100), torch.arange(64))
    kept = keep_count(density, len(true))
    chosen = largest(x.mean(0), kept)
    exact = int((chosen & largest(true, kept)).sum()) / kept
    found, spread = (
        MaskOverlap(pruner(Pixels(positive), batch_size=64), density, 16)(
            model, full_masks(model), task(None, data)
        ).report
        for positive in (True, False)
    )
    assert found[OVERLAP] == pytest.approx(exact, abs=0.03)
    if kind != "squares":
        assert isinstance(spread[OVERLAP], float) and spread[OVERLAP] > exact + 0.02
        assert spread[OVERLAP + CONVERGED] == 0


@dataclass(frozen=True)
class OneBatch(Pixels):
    """The score of the first batch, which does not add up over batches."""

    additive: ClassVar[bool] = False

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        return islice(batches, 1)

    def signed(self, model: nn.Module, masks: Masks, batches: Any, *rest: Any) -> Scores:
        return super().signed(model, masks, list(self.read(batches)))


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_samples_of_large_scores_do_not_make_the_error_large(density: float) -> None:
    # samples of 8 images, whose scores and errors have a factor of their own: 1 for the first
    n, size, rng = 10_000, 8, seeded(6)
    true = torch.randn(n, generator=rng)
    noise = size**0.5 * torch.randn(PARTS + 1, size, n, generator=rng)
    factors = torch.randn(PARTS + 1, generator=rng).mul(0.7).exp()
    factors[0] = 1.0
    x = (factors[:, None, None] * (true + noise)).view(-1, 1, 100, 100)
    kept = keep_count(density, n)
    chosen = largest(x[:size].mean(0).flatten().abs(), kept)
    exact = int((chosen & largest(true.abs(), kept)).sum()) / kept
    model, data = nn.Linear(n, 1, bias=False), (x, torch.zeros(len(x), dtype=torch.long))
    found = MaskOverlap(pruner(OneBatch(False), batch_size=size), density, PARTS)(
        model, full_masks(model), task(None, data)
    ).report
    sampling = 2.5 * math.sqrt(exact * (1 - exact) / kept)  # of the simulated overlap
    assert found[OVERLAP] == pytest.approx(exact, abs=0.02 + sampling)
    assert found[OVERLAP + CONVERGED] == 1


def test_the_normal_model_gives_the_probability_of_an_orthant() -> None:
    for rho in (0.0, 0.3, 0.9, 0.99):  # at one half: 1/2 + asin(rho) / pi
        assert overlap_at(rho, 0.5) == pytest.approx(0.5 + math.asin(rho) / math.pi, abs=2e-3)
        assert 1 / (1 + noise(overlap_at(rho, 0.1), 0.1)) == pytest.approx(rho, abs=1e-6)
    assert overlap_at(0.0, 0.1) == pytest.approx(0.1) and overlap_at(1.0, 0.1) == 1


def test_without_signal_halves_give_the_overlap_of_chance() -> None:
    masks = [{"w": torch.arange(100) // 10 == i} for i in range(4)]
    found = from_split_halves(masks, [(masks[0], masks[1])] * 3)
    assert found[OVERLAP] == pytest.approx(0.1) and found[OVERLAP + STANDARD_ERROR] == 0


def digits() -> Batch:
    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None]
    return (x - x.mean()) / x.std(), torch.tensor(found.target)


def trained(model: nn.Module, data: Batch, steps: int) -> nn.Module:
    opt, rng = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), seeded()
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(data[1]), (64,), generator=rng)
        opt.zero_grad()
        F.cross_entropy(model(data[0][chosen]), data[1][chosen]).backward()
        opt.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("few", "many", "steps", "error"),
    [
        (Snip(), Snip(batches=20), 0, 0.03),
        (Snip(bn="eval"), Snip(batches=20, bn="eval"), 0, 0.04),
        (Grasp(), Grasp(batches=20), 0, 0.04),
        *(
            (Obd(kind, images=64), Obd(kind, images=1280), steps, 0.07 if kind[0] == "m" else 0.04)
            for kind in ("ggn", "ggn_rademacher", "mc_fisher")
            for steps in (60, 300)
        ),
    ],
    ids=repr,
)
def test_the_overlap_with_the_mask_of_twenty_times_the_images(
    few: Any, many: Any, steps: int, error: float
) -> None:
    x, y = digits()
    rows: dict[float, list[tuple[float, float, float]]] = {}
    for seed in range(2):
        model = ResNetCifar("net", depth=8, width=8)(1, 10, 8, seeded(seed))
        model = trained(model, (x, y), steps)
        masks, order = full_masks(model), torch.randperm(len(y), generator=seeded(seed))
        everything, rest = (x[order], y[order]), (x[order[64:]], y[order[64:]])
        long = many(
            model, masks, zip(*(t.split(64) for t in rest), strict=True), F.cross_entropy, seeded(5)
        )
        for density in (0.5, 0.1, 0.05):
            measure = MaskOverlap(pruner(few, batch_size=64), density=density, parts=16)
            sample = measure.sample(model, masks, task(None, everything))
            ours = sample.chosen(sample.measured()[0])
            theirs = chosen(sample.ranking, model, long, masks, density)
            report = measure(model, masks, task(None, everything)).report
            figures = (report[OVERLAP], overlap_of_masks(ours, theirs), report[OVERLAP + CONVERGED])
            rows.setdefault(density, []).append(figures)
    for density, found in rows.items():
        stated, measured, converged = (
            sum(column) / len(found) for column in zip(*found, strict=True)
        )
        print(few, steps, f"{density}: stated {stated:.3f}, measured {measured:.3f}, {converged}")
        assert stated == pytest.approx(measured, abs=error)
