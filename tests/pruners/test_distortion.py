"""Distortion error: closed forms of quadratic losses, finite differences, pairs of tiny nets."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from small_nets import images, linear, resnet, seeded, state_check, task
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.analysis.distortion import Distortion, Swaps, broken, exponent, prepared, write
from pruners.base import LossFn, Masks, Measurement, apply_masks, full_masks


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.flatten() - targets).square().mean() / 2


def quadratic(n: int, examples: Tensor, kept: int, loss: LossFn = squared) -> tuple[Swaps, Tensor]:
    """A linear net of n random weights that keeps the first `kept`, with the rows of `examples` (b,
    n) as inputs: its swaps, and H of the squared loss."""
    model = linear(torch.randn(1, n, generator=seeded(1)).tolist(), torch.float64)
    weights = model.get_parameter("weight").detach().clone()
    masks = {"weight": (torch.arange(n) < kept)[None]}
    targets = torch.randn(len(examples), generator=seeded(2), dtype=torch.float64)
    apply_masks(model, masks)
    swaps = prepared(model, masks, {"weight": weights}, [(examples, targets)], loss)
    return swaps, examples.T @ examples / len(examples)


def gaussian(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(3), dtype=torch.float64)


def test_swap_quantities_equal_an_example_worked_by_hand() -> None:
    # L = (v . x - y)^2 / 2 with x = (1, 2), y = 1, w = (3, 5); the first is kept: v = (3, 0), L =
    # 2, dL/dv = (v . x - y) x = (2, 4).
    model = linear([[3.0, 0.0]])
    swaps = prepared(
        model,
        {"weight": torch.tensor([[True, False]])},
        {"weight": torch.tensor([[3.0, 5.0]])},
        [(torch.tensor([[1.0, 2.0]]).double(), torch.ones(1))],
        squared,
    )
    enter, leave = torch.tensor([1]), torch.tensor([0])
    assert (swaps.kept.tolist(), swaps.pruned.tolist(), swaps.base) == ([0], [1], 2.0)
    assert swaps.promise(enter, leave) == 4 * 5 - 2 * 3
    assert swaps.change(enter, leave) == (2 * 5 - 1) ** 2 / 2 - 2  # v = (0, 5)
    assert swaps.error(enter, leave) == 40.5 - 2 - 14


@pytest.mark.parametrize("q", [1, 3, 7])
def test_the_error_of_a_quadratic_loss_is_half_of_d_h_d(q: int) -> None:
    swaps, hessian = quadratic(40, gaussian(25, 40), kept=10)
    rng = seeded(q)
    for _ in range(20):
        leave = swaps.kept[torch.randperm(10, generator=rng)[:q]]
        enter = swaps.pruned[torch.randperm(30, generator=rng)[:q]]
        d = torch.zeros(40, dtype=torch.float64)
        d[enter], d[leave] = swaps.weights[enter], -swaps.weights[leave]
        assert swaps.error(enter, leave) == pytest.approx(float(d @ hessian @ d) / 2, rel=1e-10)


def test_the_error_of_a_linear_loss_is_zero() -> None:
    swaps, _ = quadratic(
        40, gaussian(25, 40), kept=10, loss=lambda outputs, targets: outputs.mean()
    )
    assert float(swaps.draw(5, 20, seeded())[:, 0].abs().max()) < 1e-13


def test_an_empty_swap_changes_nothing() -> None:
    swaps, _ = quadratic(40, gaussian(25, 40), kept=10)
    assert swaps.draw(0, 3, seeded()).tolist() == [[0.0, 0.0]] * 3


def test_random_swaps_have_the_mean_and_the_variance_of_all_pairs() -> None:
    swaps, _ = quadratic(12, gaussian(9, 12), kept=4)
    every = torch.tensor(
        [
            swaps.error(torch.tensor([j]), torch.tensor([i]))
            for i, j in product(range(4), range(4, 12))
        ],
        dtype=torch.float64,
    )
    drawn = swaps.draw(1, 4_000, seeded(5))[:, 0]
    centred = every - every.mean()
    assert float(drawn.mean()) == pytest.approx(
        float(every.mean()), abs=4 * float(every.std() / 4_000**0.5)
    )
    error = float(((centred**4).mean() - (centred**2).mean() ** 2).sqrt() / 4_000**0.5)
    assert float(drawn.var()) == pytest.approx(float((centred**2).mean()), abs=4 * error)


@pytest.mark.parametrize(("curvature", "power"), [("diagonal", 1.0), ("rank one", 2.0)])
def test_the_variance_grows_like_q_for_independent_and_like_q_squared_for_coupled_weights(
    curvature: str, power: float
) -> None:
    # Diagonal H: sums of q independent terms (up to repetition). H = 1 1': half the square of a sum
    # whose variance grows with q; for a normal sum, the variance is half the square of that. Nine
    # sums of 400: an error of 7 % each gives an error of 0.03 in the slope.
    n, counts = 2_000, [8, 32, 128]
    swaps, _ = quadratic(
        n,
        torch.eye(n, dtype=torch.float64)
        if curvature == "diagonal"
        else torch.ones(1, n, dtype=torch.float64),
        kept=1_000,
    )
    variances = [float(swaps.draw(q, 400, seeded(q))[:, 0].var()) for q in counts]
    slope = exponent(counts, variances)
    assert slope is not None
    # kurtosis: of a sum of 16 chi-squares of one degree of freedom (q = 8), and of one chi-square
    kurtosis = 3.75 if curvature == "diagonal" else 15
    # standard error of a slope through three points, log 4 apart
    error = math.sqrt((kurtosis - 1) / 400) / (math.log(4) * math.sqrt(2))
    # 0.06: drawing from 1,000 without repetition lowers the variance at the largest q
    assert slope == pytest.approx(power, abs=4 * error + 0.06)


def test_the_exponent_is_the_slope_in_logarithms() -> None:
    assert exponent([1, 10, 100], [3.0, 30.0, 300.0]) == pytest.approx(1.0, abs=1e-12)
    assert exponent([1, 10, 100], [3.0, 300.0, 30000.0]) == pytest.approx(2.0, abs=1e-12)
    assert exponent([1, 10], [0.0, 1.0]) is None and exponent([1], [1.0]) is None


def test_broken_is_the_share_of_predicted_decreases_that_the_error_cancels() -> None:
    errors, promises = torch.tensor([0.5, 2.0, -1.0, 9.0]), torch.tensor([-1.0, -1.0, -1.0, 1.0])
    # 0.5 < 1 and -1 < 1 do not cancel the decrease; the last swap predicts none
    assert broken(errors, promises) == pytest.approx(1 / 3)
    assert broken(errors, -promises.abs() * 0) == 0.0


def masked_resnet() -> tuple[nn.Module, Masks, dict[str, Tensor]]:
    model = resnet()
    # moves the running statistics away from zeros and ones
    model(torch.randn(64, 1, 8, 8, generator=seeded(7)))
    weights = {name: model.get_parameter(name).detach().clone() for name in full_masks(model)}
    masks = {
        name: torch.rand(w.shape, generator=seeded(i)) < 0.3
        for i, (name, w) in enumerate(weights.items())
    }
    apply_masks(model, masks)
    return model, masks, weights


def test_the_predicted_decrease_is_the_slope_of_the_loss_along_the_swap() -> None:
    model, masks, weights = masked_resnet()
    x, y = images(64)
    swaps = prepared(
        model,
        masks,
        weights,
        [(x[:40].double(), y[:40]), (x[40:].double(), y[40:])],
        F.cross_entropy,
    )
    direct = model.double().eval()
    # batches count by their size
    assert swaps.base == pytest.approx(F.cross_entropy(direct(x.double()), y).item(), rel=1e-12)
    leave, enter = swaps.kept[::50], swaps.pruned[::50][: len(swaps.kept[::50])]
    d = torch.zeros_like(swaps.effective)
    d[enter], d[leave] = swaps.weights[enter], -swaps.weights[leave]
    values = []
    for t in (1e-5, -1e-5):
        write(swaps.net, swaps.names, swaps.effective + t * d)
        values.append(swaps.loss())
    assert swaps.promise(enter, leave) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_the_stage_measures_every_possible_q_and_leaves_the_net_unchanged() -> None:
    model, masks, weights = masked_resnet()
    kept = sum(int(m.sum()) for m in masks.values())
    unchanged = state_check(model)
    origin = {"origin": Measurement(weights)}
    measure = Distortion(counts=(1, 10, kept, kept + 1, 10_000), draws=5, images=40)
    found = measure(model, masks, task(None, images(64), measured=origin))
    assert unchanged()
    assert found.series["distortion_q"] == [1, 10, kept]  # q may exceed half of the kept weights
    assert all(len(values) == 3 for values in found.series.values())
    ordered = [found.series[f"distortion_q{share}"] for share in ("05", "25", "50", "75", "95")]
    assert all(list(column) == sorted(column) for column in zip(*ordered, strict=True))
    assert found.series["distortion_std"] == pytest.approx(
        [v**0.5 for v in found.series["distortion_variance"]]
    )
    again = measure(model, masks, task(None, images(64), measured=origin))
    assert again.series == found.series


def test_impossible_measurements_are_rejected() -> None:
    with pytest.raises(
        ValueError, match="draws=1 must be at least 2(.|\n)*images=0 must be at least 1"
    ):
        Distortion(draws=1, images=0)
    with pytest.raises(ValueError, match=r"counts=\(\) must be at least 1"):
        Distortion(counts=())
    half = {"weight": torch.tensor([[True, False]])}
    ones = (torch.ones(1, 2).double(), torch.ones(1))
    # the kept one was 2 before
    with pytest.raises(ValueError, match="weights are not those of the unpruned one"):
        prepared(
            linear([[3.0, 0.0]]), half, {"weight": torch.tensor([[2.0, 5.0]])}, [ones], squared
        )
    model = resnet()
    with pytest.raises(ValueError, match="0 pruned"):
        Distortion()(
            model,
            full_masks(model),
            task(
                None,
                measured={
                    "origin": Measurement({n: model.get_parameter(n) for n in full_masks(model)})
                },
            ),
        )


def test_a_search_is_measured_at_its_end_in_float64(tmp_path: Path) -> None:
    small = [
        "dataset=digits",
        "model=resnet20",
        "model.depth=8",
        "model.width=4",
        "train_fraction=0.3",
        "train.scale=0.0625",
        "method.batch_size=64",
    ]
    overrides = [
        "method=sr_popup",
        "density=0.2",
        "start=init",
        *small,
        "portrait=distortion",
        "portrait.measure.draws=4",
        "portrait.measure.images=100",
    ]
    run = compose_run(*overrides)
    portrait = run.stage("portrait")
    assert (portrait.start.stage, portrait.needs, portrait.component.counts) == (
        "search",
        ("origin",),
        (1, 10, 100, 1_000, 10_000),
    )
    made, artefacts = perform_run(run, machine(tmp_path))
    series = artefacts["portrait"].meta["series"]
    assert series["distortion_q"] == [1, 10, 100] and made["kept"] < 1_000
    assert made["report"]["distortion_exponent"] == pytest.approx(
        exponent([1, 10, 100], series["distortion_variance"])
    )
    work = portrait.component.work(1, 1, 431)
    assert (work.images, work.passes) == (100 * (4 * 5 + 2), 100 * (4 * 5 + 1 + 3))
