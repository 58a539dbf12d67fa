"""Selections by rank against sorted lists."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

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
