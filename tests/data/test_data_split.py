"""Subsets and held-out images: exact, nested and stratified; no class may become empty."""

from math import ceil, floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.split import hold_out, stratified_order, subset

fractions = st.floats(0.05, 1.0)
# shares below 1 / (C - 2), as in every data set here
class_sizes = st.lists(st.integers(60, 75), min_size=2, max_size=12)


def labels_of(sizes: list[int]) -> torch.Tensor:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@settings(max_examples=40, deadline=None)
@given(class_sizes, fractions, fractions)
def test_smaller_subsets_are_contained_in_larger_ones_and_counts_are_exact(
    sizes: list[int], one: float, other: float
) -> None:
    labels = labels_of(sizes)
    small, large = (subset(labels, fraction) for fraction in sorted((one, other)))
    assert set(small.tolist()) <= set(large.tolist())
    assert len(small) == round(min(one, other) * len(labels))
    assert small.tolist() == sorted(set(small.tolist()))


@settings(max_examples=40, deadline=None)
@given(class_sizes)
def test_every_prefix_of_the_order_has_the_floor_or_ceiling_of_each_class_share(
    sizes: list[int],
) -> None:
    labels = labels_of(sizes)
    order = labels[stratified_order(labels, seed=0)]
    counts = torch.nn.functional.one_hot(order, len(sizes)).cumsum(0)
    for m in range(1, len(labels) + 1):
        for label, size in enumerate(sizes):
            assert (
                floor(m * size / len(labels))
                <= int(counts[m - 1, label])
                <= ceil(m * size / len(labels))
            )


def test_balanced_classes_have_equal_counts_and_fraction_one_keeps_all() -> None:
    labels = torch.arange(10).repeat(50)
    assert labels[subset(labels, 0.1)].bincount().tolist() == [5] * 10
    assert subset(labels, 1.0).tolist() == list(range(500))


def test_the_order_within_a_class_follows_numpys_frozen_stream() -> None:
    # One class of 4: RandomState(0).permutation(4) is 2, 3, 1, 0 in every version of numpy.
    assert stratified_order(torch.zeros(4, dtype=torch.long), seed=0).tolist() == [2, 3, 1, 0]


def test_the_held_out_part_is_disjoint_stratified_and_complete() -> None:
    labels = torch.arange(10).repeat(50)
    kept, held = hold_out(labels, 0.1)
    assert labels[held].bincount().tolist() == [5] * 10
    assert sorted(kept.tolist() + held.tolist()) == list(range(500))
    assert hold_out(labels, 0.1)[1].tolist() == held.tolist()


def test_nothing_is_held_out_at_zero() -> None:
    kept, held = hold_out(torch.arange(4), 0.0)
    assert (kept.tolist(), held.tolist()) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan"), "abc", True])
def test_a_training_fraction_out_of_range_is_rejected(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"train_fraction={fraction} must be in \(0, 1\]"):
        subset(torch.arange(4), fraction)


@pytest.mark.parametrize("fraction", [1, -0.1, 1.5, float("nan"), "abc"])
def test_a_held_out_share_out_of_range_is_rejected(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.validation={fraction} must be in \[0, 1\)"):
        hold_out(torch.arange(4), fraction)


def test_a_subset_that_empties_a_class_is_rejected_with_a_fraction_that_works() -> None:
    labels = torch.arange(10).repeat(50)
    with pytest.raises(
        ValueError,
        match=r"train_fraction=0\.01 keeps 5 of 500 .* class 5, 6, 7, 8, 9 .* train_fraction=0\.02",
    ):
        subset(labels, 0.01)
    assert len(subset(labels, 0.02)) == 10


@pytest.mark.parametrize(("fraction", "what"), [(0.001, "validation"), (0.999, "training")])
def test_a_held_out_share_that_empties_a_class_is_rejected(fraction: float, what: str) -> None:
    with pytest.raises(
        ValueError, match=f"dataset.validation={fraction} .* no {what} image of class"
    ):
        hold_out(torch.arange(10).repeat(50), fraction)
