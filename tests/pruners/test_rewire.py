"""What the rewiring methods share: the period of an update in steps, uniform growth, the weakest
weights, momentum that forgets."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_nets import mlp, seeded, task

from pruners.base import Task
from pruners.dynamic.rewire import UpdateSchedule, distinct, grow, reset_momentum, weakest


def training(epochs: int, per_epoch: int) -> Task:
    return replace(task(0.1), epochs=epochs, steps=epochs * per_epoch)


# --- how often


@pytest.mark.parametrize(
    ("period", "batch", "epochs", "per_epoch", "expected"),
    [
        ("100it", 128, 160, 391, 100),  # the paper's own run
        ("100it", 100, 160, 500, 100),
        ("100it", 128, 80, 391, 50),  # half as long
        # a training set of twice the size, of which 100 of 391 is 200
        ("100it", 128, 160, 782, 200),
        ("100it", 100, 30, 500, 19),  # 100 * 30 / 160 = 18.75
        ("100it", 100, 160, 15, 10),  # digits: 100 * 15 / 500 = 3, but never fewer than ten
        ("4it", 100, 160, 15, 4),  # unless the paper has fewer
        ("1ep", 100, 160, 15, 15),
        ("1ep", 100, 30, 15, 15),  # a duration in epochs is at least one
        ("10ep", 100, 80, 15, 75),
        (10, 100, 80, 15, 75),
    ],
)
def test_a_period_is_the_papers_share_of_the_run(
    period: str | int, batch: int, epochs: int, per_epoch: int, expected: int
) -> None:
    assert UpdateSchedule(period, 1.0, 160, batch).steps(training(epochs, per_epoch)) == expected


def test_a_factor_lengthens_the_papers_period_before_it_is_scaled() -> None:
    rhythm, run = UpdateSchedule("100it", 1.0, 160, 100), training(160, 15)
    # 3, 6, 12, 24
    assert [rhythm.steps(run, factor) for factor in (1, 2, 4, 8)] == [10, 10, 12, 24]


def test_a_plain_number_is_the_same_period_as_with_its_unit() -> None:
    assert UpdateSchedule(2, 1.0, 160, 100) == UpdateSchedule("2ep", 1.0, 160, 100)


def test_the_shortest_period_is_an_option() -> None:
    assert UpdateSchedule("100it", 1.0, 160, 100, shortest=1).steps(training(160, 15)) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"period": "half"},
            (
                r"method.rhythm.period='half' must be a number of iterations or epochs, at least"
                r" one: 100it, 1ep"
            ),
        ),
        ({"period": "0it"}, "method.rhythm.period='0it' must be"),
        ({"stop": 1.5}, r"method.rhythm.stop=1.5 must be in \[0, 1\]"),
        ({"shortest": 0}, "method.rhythm.shortest=0 must be at least 1"),
    ],
)
def test_a_rhythm_that_is_none_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UpdateSchedule(
            **{"period": "100it", "stop": 1.0, "epochs": 160, "batch_size": 100, **options}
        )  # type: ignore[arg-type]


def test_a_stage_that_does_not_train_has_no_period() -> None:
    with pytest.raises(ValueError, match="its stage is of kind train"):
        UpdateSchedule("100it", 1.0, 160, 100).steps(task(0.1))


# --- which come


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**31))
def test_distinct_numbers_are_as_many_as_asked_and_below_n(n: int, k: int, seed: int) -> None:
    k = min(k, n)
    drawn = distinct(n, k, seeded(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == k and all(0 <= i < n for i in drawn)


# by a permutation, and by drawing again what was drawn before
@pytest.mark.parametrize(("n", "k"), [(12, 5), (30, 3)])
def test_every_position_grows_equally_often(n: int, k: int) -> None:
    rng, draws = seeded(1), 4000
    free = torch.ones(n + 4, dtype=torch.bool)
    free[[0, 3, 7, n]] = False
    counts = sum(
        (grow(free, k, rng).int() for _ in range(draws)), torch.zeros(n + 4, dtype=torch.int)
    )
    assert not counts[~free].any()
    p = k / n
    assert float((counts[free] - draws * p).abs().max()) < 4 * math.sqrt(draws * p * (1 - p))
    # Two positions together: k (k - 1) / (n (n - 1)).
    places = free.nonzero().flatten()
    both = sum(
        bool(grown[places[0]]) and bool(grown[places[1]])
        for grown in (grow(free, k, rng) for _ in range(draws))
    )
    pair = k * (k - 1) / (n * (n - 1))
    assert abs(both - draws * pair) < 4 * math.sqrt(draws * pair * (1 - pair))


def test_the_reserve_is_drawn_from_when_there_is_no_other_room() -> None:
    free = torch.tensor([[True, False, True], [False, False, False]])
    reserve = torch.tensor([[False, True, False], [True, False, True]])
    rng = seeded(0)
    assert not (grow(free, 2, rng, reserve) & ~free).any()
    grown = grow(free, 4, rng, reserve)
    assert (
        int(grown.sum()) == 4
        and (grown & free).equal(free)
        and not (grown & ~free & ~reserve).any()
    )
    with pytest.raises(ValueError, match="2 free positions for 3 new connections"):
        grow(free, 3, rng)


# --- which go


def test_the_weakest_are_the_smallest_active_ones_with_ties_by_index() -> None:
    weights = torch.tensor([[0.5, -0.1, 0.0], [0.1, -3.0, 0.1]])
    active = torch.tensor([[True, True, False], [True, True, True]])
    # three of size 0.1
    assert weakest(weights, active, 2).tolist() == [[False, True, False], [True, False, False]]
    assert weakest(weights, active, 0).sum() == 0 and weakest(weights, active, 5).equal(active)


def test_weights_that_have_overflowed_are_the_last_to_go_and_counts_stay_exact() -> None:
    weights = torch.tensor([math.nan, 2.0, -math.inf, 1.0, 7.0])
    active = torch.tensor([True, True, True, True, False])
    assert weakest(weights, active, 2).tolist() == [False, True, False, True, False]
    assert weakest(weights, active, 3).tolist() == [True, True, False, True, False]


# --- what the optimizer forgets


def test_momentum_is_cleared_where_told_and_nowhere_else() -> None:
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    where = {"fc1.weight": torch.zeros(30, 64, dtype=torch.bool)}
    where["fc1.weight"][:, 5] = True
    reset_momentum(model, opt, where)  # before the first step there is nothing to reset
    opt.step()
    reset_momentum(model, opt, where)
    for name, p in model.named_parameters():
        buffer = opt.state[p]["momentum_buffer"]
        expected = ~where["fc1.weight"] if name == "fc1.weight" else torch.ones_like(buffer)
        assert torch.equal(buffer, expected.float())
