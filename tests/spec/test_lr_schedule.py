"""One-cycle, trapezoidal and warm-up schedules agree with closed formulas and with torch's own."""

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from runner.spec.lr_schedule import LrSchedule, OneCycle, Trapezoid, WarmupCosine

TOTALS = (7, 20, 100, 1437)
Make = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]


def of_torch(make: Make, lr: float, total: int) -> list[float]:
    """The rate of each step that a scheduler of torch sets."""
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = make(opt), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls a deprecated form of its parts' step
        for _ in range(total):
            rates.append(float(opt.param_groups[0]["lr"]))
            opt.step()
            scheduler.step() if len(rates) < total else None
    return rates


def rates(schedule: LrSchedule, lr: float, total: int) -> list[float]:
    return [schedule(lr, step, total) for step in range(total)]


# --- one cycle


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize(
    "options", [{}, {"rise": 0.45, "divide": 10.0, "final": 100.0}, {"rise": 0.9, "divide": 1.0}]
)
def test_one_cycle_equals_torchs(total: int, options: dict[str, float]) -> None:
    schedule = OneCycle(**options)
    expected = of_torch(
        lambda opt: lr_scheduler.OneCycleLR(
            opt,
            0.4,
            total_steps=total,
            pct_start=schedule.rise,
            div_factor=schedule.divide,
            final_div_factor=schedule.final,
            cycle_momentum=False,
        ),
        0.4,
        total,
    )
    assert rates(schedule, 0.4, total) == pytest.approx(expected, rel=1e-12, abs=0)


def test_one_cycle_by_hand() -> None:
    # ten steps: the peak at step 0.5 * 10 - 1 = 4, the end at step 9
    found = rates(OneCycle(rise=0.5, divide=4.0, final=2.0), 0.8, 10)
    assert found[:5:2] == pytest.approx([0.2, 0.5, 0.8]) and found[4] == 0.8
    assert found[9] == pytest.approx(0.1)
    assert found[5] == pytest.approx(0.1 + 0.35 * (1 + math.cos(math.pi / 5)))


@pytest.mark.parametrize(("total", "expected"), [(1, [0.4]), (2, [0.4, 0.4 / 25e4])])
def test_one_cycle_of_few_steps_begins_at_the_peak(total: int, expected: list[float]) -> None:
    assert rates(OneCycle(), 0.4, total) == pytest.approx(expected)


# --- trapezoid


def test_the_trapezoid_by_hand() -> None:
    # ten steps, of which two rise and four decay
    expected = [0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2]
    assert rates(Trapezoid(0.2, 0.4), 0.8, 10) == pytest.approx(expected, rel=1e-12)


def test_without_ramps_the_trapezoid_is_constant() -> None:
    assert rates(Trapezoid(0.0, 0.0), 0.8, 5) == [0.8] * 5


def test_a_trapezoid_of_ramps_alone_is_a_triangle() -> None:
    assert rates(Trapezoid(0.5, 0.5), 1.0, 6) == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3], rel=1e-12
    )


@given(
    rise=st.floats(0, 1), share=st.floats(0, 1), total=st.integers(1, 400), lr=st.floats(1e-6, 10)
)
def test_a_trapezoid_is_positive_and_no_step_jumps(
    rise: float, share: float, total: int, lr: float
) -> None:
    decay = share * (1 - rise)
    found = rates(Trapezoid(rise, decay), lr, total)
    assert all(0 < rate <= lr for rate in found)
    down = max(decay * total, 1.0)
    up = max(rise * total, 1.0)
    for before, after in pairwise(found):
        assert -lr / down * (1 + 1e-9) <= after - before <= lr / up * (1 + 1e-9)


# --- warm-up and cosine


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("options", [{}, {"rise": 0.3, "start": 1 / 3}, {"rise": 0.7, "start": 1}])
def test_warm_up_and_cosine_equal_torchs(total: int, options: dict[str, float]) -> None:
    schedule = WarmupCosine(**options)
    rise = round(schedule.rise * total)

    def make(opt: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        cosine = lr_scheduler.CosineAnnealingLR(opt, T_max=total - rise)
        if not rise:
            return cosine
        linear = lr_scheduler.LinearLR(opt, start_factor=schedule.start, total_iters=rise)
        return lr_scheduler.SequentialLR(opt, [linear, cosine], milestones=[rise])

    expected = of_torch(make, 0.4, total)
    assert rates(schedule, 0.4, total) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_warm_up_and_cosine_by_hand() -> None:
    # eight steps, of which four rise
    assert rates(WarmupCosine(rise=0.5, start=0.2), 1.0, 8) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_warm_up_leaves_the_last_step_to_the_cosine(total: int) -> None:
    assert rates(WarmupCosine(rise=0.99), 1.0, total)[-1] == 1.0


# --- options


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (OneCycle, {"rise": 1.0}, "rise=1 must be above 0 and below 1"),
        (OneCycle, {"divide": 0.5}, "divide=0.5 must be at least 1"),
        (OneCycle, {"final": math.inf}, "final=inf must be at least 1"),
        (Trapezoid, {"rise": -0.1}, r"rise=-0.1 must be in \[0, 1\]"),
        (Trapezoid, {"rise": 0.6, "decay": 0.6}, r"rise \+ decay=1.2 must be at most 1"),
        (WarmupCosine, {"rise": 1.0}, r"rise=1 must be in \[0, 1\)"),
        (WarmupCosine, {"start": 0.0}, "start=0 must be above 0"),
        (WarmupCosine, {"start": math.nan}, "start=nan must be above 0"),
    ],
)
def test_an_invalid_option_gives_an_error(cls: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)
