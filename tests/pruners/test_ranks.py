"""Selections by rank against sorted lists."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners.base import Masks, Scores, clear_, count_kept
from pruners.selection.ranked import Layout, Ranked
from pruners.selection.ranks import largest, nth_true

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, float("-inf")]), min_size=1, max_size=40)


@given(few_values, st.data())
def test_exactly_k_of_the_largest_are_chosen_and_ties_go_to_the_lower_index(
    values: list[float], data: Any
) -> None:
    k = data.draw(st.integers(0, len(values)))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    chosen = largest(torch.tensor(values), k).nonzero().flatten().tolist()
    assert chosen == sorted(order[:k])


@given(st.lists(st.booleans(), max_size=40), st.data())
def test_true_entries_are_found_by_their_rank(mask: list[bool], data: Any) -> None:
    places = [i for i, kept in enumerate(mask) if kept]
    ranks = data.draw(st.permutations(range(len(places))))
    found = nth_true(torch.tensor(mask, dtype=torch.bool), torch.tensor(ranks, dtype=torch.long))
    assert found.tolist() == [places[rank] for rank in ranks]


def by_sorting(scores: Scores, masks: Masks, total: int) -> list[int]:
    """Places, in the vector of all layers, of the `total` largest scores that are not pruned."""
    values = [float(v) for name in masks for v in scores[name].double().flatten()]
    left = [i for i, kept in enumerate(k for m in masks.values() for k in m.flatten()) if kept]
    return sorted(sorted(left, key=lambda i: (-values[i], i))[:total])


@pytest.mark.parametrize("values", [2, 5, 10**9])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_one_threshold_for_all_layers_keeps_what_sorting_in_float64_keeps(
    values: int, share: float
) -> None:
    # more than the number from which a sample is taken, with pruned weights and many ties
    rng = torch.Generator().manual_seed(values)
    shapes = {"a": (40, 30, 3, 3), "b": (7, 11), "c": (50, 130)}
    scores = {n: torch.randint(0, values, s, generator=rng).double() for n, s in shapes.items()}
    scores["a"] = scores["a"].to(memory_format=torch.channels_last)
    masks = {n: torch.rand(s, generator=rng) < 0.8 for n, s in shapes.items()}
    total = int(share * count_kept(masks))
    ranked = Ranked.of(scores, masks)
    chosen, _ = ranked.top(total)
    layers = ranked.split(chosen)
    kept = torch.cat([layer.flatten() for layer in layers.values()])
    assert kept.nonzero().flatten().tolist() == by_sorting(scores, masks, total)
    assert not any((layers[n] & ~masks[n]).any() for n in masks)


@pytest.mark.parametrize("last", [False, True])
def test_a_layout_is_undone_and_knows_the_index_of_every_place(last: bool) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    layers = {
        "a": torch.arange(90.0).view(5, 2, 3, 3).to(memory_format=form),
        "b": torch.arange(90.0, 104.0).view(7, 2),
        "c": torch.arange(104.0, 110.0).view(3, 2, 1, 1).to(memory_format=form),
    }
    layout = Layout.of(layers)
    vector = layout.join(layers)
    found = layout.split(vector)
    assert {n: layer.tolist() for n, layer in found.items()} == {
        n: layer.tolist() for n, layer in layers.items()
    }
    assert all(found[n].stride() == layers[n].stride() for n in ("a", "b"))
    # each entry is its own index
    assert layout.index(torch.arange(110)).tolist() == vector.int().tolist()
    other = {name: layer.contiguous() for name, layer in layers.items()}
    assert torch.equal(layout.join(other), vector)


def test_parts_of_a_vector_are_joined_without_a_copy_unless_a_layer_was_replaced() -> None:
    layers = {
        "a": torch.rand(5, 2, 3, 3).to(memory_format=torch.channels_last),
        "b": torch.rand(7, 2),
    }
    layout = Layout.of(layers)
    vector = layout.join(layers)
    parts = layout.split(vector)
    assert Layout.of(parts) is layout and layout.join(parts) is vector
    ranked = Ranked.of(parts, layout.split(vector > 0.5))
    assert ranked.scores is vector and torch.equal(ranked.left, vector > 0.5)
    parts["b"].zero_()  # a change in place is one of the vector
    assert layout.join(parts) is vector and not vector[90:].any()
    parts["b"] = torch.ones(7, 2)
    assert torch.equal(layout.join(parts), torch.cat([vector[:90], torch.ones(14)]))
    # the same layers in another order, or of another layout, are other vectors
    turned = {name: layers[name] for name in ("b", "a")}
    other = Layout.of(turned).split(Layout.of(turned).join(turned))
    assert torch.equal(layout.join(other), layout.join(layers))
    swapped = layout.split(vector.clone())
    swapped["a"] = swapped.pop("a")
    assert torch.equal(Ranked.of(swapped, swapped).scores, Layout.of(dict(swapped)).join(swapped))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("pruned", [False, True])
def test_a_score_that_is_not_finite_is_refused_with_its_layer(bad: float, pruned: bool) -> None:
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, bad, 5.0])}
    masks = {"a": torch.ones(2, dtype=torch.bool), "b": torch.tensor([True, not pruned, True])}
    with pytest.raises(FloatingPointError, match="1 of 3 scores of b are NaN or infinite"):
        Ranked.of(scores, masks).top(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pruned_entries_become_positive_zeros_whatever_they_are(dtype: torch.dtype) -> None:
    weights = torch.tensor([1.5, -2.0, float("nan"), float("-inf"), -0.0, -3.0], dtype=dtype)
    mask = torch.tensor([True, False, False, False, False, True])
    clear_(weights, mask)
    assert weights.tolist() == [1.5, 0.0, 0.0, 0.0, 0.0, -3.0]
    assert not weights.signbit()[1:5].any()
