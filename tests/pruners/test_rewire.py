"""Shared parts of rewiring methods: update periods, uniform growth, weakest weights, momentum."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_nets import mlp, seeded, task
from support import compose_run

from pruners.base import Task
from pruners.dynamic.rewire import UpdateSchedule, distinct, grow, reset_momentum, weakest


def training(epochs: int, per_epoch: int) -> Task:
    return replace(task(0.1), epochs=epochs, steps=epochs * per_epoch)


# --- the update period


@pytest.mark.parametrize(
    ("period", "batch", "epochs", "per_epoch", "expected"),
    [
        ("100it", 128, 160, 391, 100),  # the paper's own run
        ("100it", 100, 160, 500, 100),
        ("100it", 128, 80, 391, 50),  # half the epochs
        # twice the training set: 200 of its steps correspond to 100 of 391
        ("100it", 128, 160, 782, 200),
        ("100it", 100, 30, 500, 19),  # 100 * 30 / 160 = 18.75
        ("100it", 100, 160, 15, 10),  # digits: 100 * 15 / 500 = 3, at least ten by default
        ("4it", 100, 160, 15, 4),  # a shorter period of the paper is kept
        ("1ep", 100, 160, 15, 15),
        ("1ep", 100, 30, 15, 15),  # a duration in epochs is at least one
        ("10ep", 100, 80, 15, 75),
        (10, 100, 80, 15, 75),
    ],
)
def test_a_period_is_the_same_share_of_the_run_as_in_the_paper(
    period: str | int, batch: int, epochs: int, per_epoch: int, expected: int
) -> None:
    assert UpdateSchedule(period, 1.0, 160, batch).steps(training(epochs, per_epoch)) == expected


@pytest.mark.parametrize(
    ("period", "images", "batch", "per_epoch", "expected"),
    [
        # 1,281,167 images are 313 steps of 4,096 and 5,005 of 256: 100 * 5005 / 313 = 1599.04
        ("100it", 1_281_167, 4096, 5005, 1599),
        ("1000it", 1_281_167, 256, 5005, 1000),
        ("100it", 100_000, 128, 782, 100),  # Tiny-ImageNet
    ],
)
def test_a_period_counts_in_the_epochs_and_steps_of_the_run_that_states_it(
    period: str, images: int, batch: int, per_epoch: int, expected: int
) -> None:
    schedule = UpdateSchedule(period, 1.0, 100, batch, images=images)
    assert schedule.steps(training(100, per_epoch)) == expected


@pytest.mark.parametrize("method", ["rigl", "gmp"])
@pytest.mark.parametrize(
    "name", ["cifar10", "tiny_imagenet", "imagenet_subset", "imagenet", "imagenet_256"]
)
def test_a_period_counts_in_the_epochs_to_which_durations_of_the_data_set_refer(
    name: str, method: str
) -> None:
    run = compose_run(f"method={method}", f"dataset={name}", "model=resnet20", "density=0.1")
    assert run.stage("train").component.rhythm.images == run.dataset.paper_images


def test_a_factor_lengthens_the_papers_period_before_scaling() -> None:
    schedule, run = UpdateSchedule("100it", 1.0, 160, 100), training(160, 15)
    # scaled: 3, 6, 12, 24; at least 10
    assert [schedule.steps(run, factor) for factor in (1, 2, 4, 8)] == [10, 10, 12, 24]


def test_a_plain_number_is_a_period_in_iterations() -> None:
    assert UpdateSchedule(2, 1.0, 160, 100) == UpdateSchedule("2ep", 1.0, 160, 100)


def test_the_shortest_period_is_an_option() -> None:
    assert UpdateSchedule("100it", 1.0, 160, 100, shortest=1).steps(training(160, 15)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
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
        ({"images": 0}, "method.rhythm.images=0 must be at least 1"),
    ],
)
def test_invalid_schedules_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UpdateSchedule(
            **{"period": "100it", "stop": 1.0, "epochs": 160, "batch_size": 100, **options}
        )


def test_a_stage_that_does_not_train_has_no_period() -> None:
    with pytest.raises(ValueError, match="its stage is of kind train"):
        UpdateSchedule("100it", 1.0, 160, 100).steps(task(0.1))


# --- growth


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**31))
def test_distinct_returns_k_different_numbers_below_n(n: int, k: int, seed: int) -> None:
    k = min(k, n)
    drawn = distinct(n, k, seeded(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == k and all(0 <= i < n for i in drawn)


# one case draws a permutation, the other redraws repeated numbers
@pytest.mark.parametrize(("n", "k"), [(12, 5), (30, 3)])
def test_every_position_grows_with_equal_probability(n: int, k: int) -> None:
    rng, draws = seeded(1), 4000
    free = torch.ones(n + 4, dtype=torch.bool)
    free[[0, 3, 7, n]] = False
    counts = sum(
        (grow(free, k, rng).int() for _ in range(draws)), torch.zeros(n + 4, dtype=torch.int)
    )
    assert not counts[~free].any()
    p = k / n
    assert float((counts[free] - draws * p).abs().max()) < 4 * math.sqrt(draws * p * (1 - p))
    # Two given positions grow together with probability k (k - 1) / (n (n - 1)).
    places = free.nonzero().flatten()
    both = sum(
        bool(grown[places[0]]) and bool(grown[places[1]])
        for grown in (grow(free, k, rng) for _ in range(draws))
    )
    pair = k * (k - 1) / (n * (n - 1))
    assert abs(both - draws * pair) < 4 * math.sqrt(draws * pair * (1 - pair))


def test_the_reserve_is_used_once_no_free_position_is_left() -> None:
    free = torch.tensor([[True, False, True], [False, False, False]])
    reserve = torch.tensor([[False, True, False], [True, False, True]])
    rng = seeded(0)
    assert not (grow(free, 2, rng, reserve) & ~free).any()
    grown = grow(free, 4, rng, reserve)
    assert int(grown.sum()) == 4
    assert (grown & free).equal(free)
    assert not (grown & ~free & ~reserve).any()
    with pytest.raises(ValueError, match="2 free positions for 3 new connections"):
        grow(free, 3, rng)


# --- weakest weights


def test_the_weakest_are_the_smallest_active_weights_with_ties_by_index() -> None:
    weights = torch.tensor([[0.5, -0.1, 0.0], [0.1, -3.0, 0.1]])
    active = torch.tensor([[True, True, False], [True, True, True]])
    # three weights have size 0.1
    assert weakest(weights, active, 2).tolist() == [[False, True, False], [True, False, False]]
    assert weakest(weights, active, 0).sum() == 0 and weakest(weights, active, 5).equal(active)


def test_overflowed_weights_are_dropped_last_and_counts_stay_exact() -> None:
    weights = torch.tensor([math.nan, 2.0, -math.inf, 1.0, 7.0])
    active = torch.tensor([True, True, True, True, False])
    assert weakest(weights, active, 2).tolist() == [False, True, False, True, False]
    assert weakest(weights, active, 3).tolist() == [True, True, False, True, False]


# --- momentum


def test_momentum_is_reset_only_at_the_given_positions() -> None:
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    where = {"fc1.weight": torch.zeros(30, 64, dtype=torch.bool)}
    where["fc1.weight"][:, 5] = True
    reset_momentum(model, opt, where)  # allowed before the first step, without effect
    opt.step()
    reset_momentum(model, opt, where)
    for name, p in model.named_parameters():
        buffer = opt.state[p]["momentum_buffer"]
        expected = ~where["fc1.weight"] if name == "fc1.weight" else torch.ones_like(buffer)
        assert torch.equal(buffer, expected.float())
