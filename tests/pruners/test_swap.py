"""Swaps of a mask search (arXiv:2104.08700, Eqs. 28 to 30, 32) against sorted lists."""

from fractions import Fraction
from math import ceil, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_nets import seeded
from torch import Tensor

from pruners.search.swap import Before, Restriction, Swap, candidate_pairs, swaps
from pruners.selection.ranks import FEW, by_sample, by_topk, flat


def layer(scores: list[float], kept: list[int]) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[kept] = True
    return mask, torch.tensor(scores)


def indices(mask: Tensor) -> set[int]:
    """Indices of the True entries in the flattened tensor."""
    return set(mask.flatten().nonzero().flatten().tolist())


def swap(
    kept: Tensor, scores: Tensor, k: int, how: Restriction, step: int, steps: int, rng: Any
) -> Swap:
    """The swaps of a net of one layer."""
    return swaps({"w": Before(kept, scores, k)}, how, step, steps, rng)["w"]


def by_lists(
    kept: Tensor, scores: Tensor, q: Any, low: bool = False
) -> tuple[set[int], set[int], int]:
    """Eqs. 28 to 30 with sorted lists: which weights enter and leave, and how many pairs could;
    among equal scores, the lower index counts as the larger."""
    values, phi = scores.flatten().tolist(), set(kept.flatten().nonzero().flatten().tolist())
    falling = sorted(range(len(values)), key=lambda i: (-values[i], i))
    top = set(falling[: len(phi)])
    revived, pruned = [i for i in falling if i in top - phi], [i for i in falling if i in phi - top]
    n = q(len(revived))
    if low:
        return set(revived[len(revived) - n :]), set(pruned[:n]), len(revived)
    return set(revived[:n]), set(pruned[len(pruned) - n :]), len(revived)


@st.composite
def layers(draw: Any) -> tuple[Tensor, Tensor]:
    """A convolution's scores with many ties, in either memory format, and a mask."""
    shape = draw(st.tuples(*[st.integers(1, 4)] * 4))
    n = int(np.prod(shape))
    values = draw(
        st.lists(st.integers(0, draw(st.sampled_from([1, 3, 50]))), min_size=n, max_size=n)
    )
    kept = draw(st.sets(st.integers(0, n - 1), min_size=1))
    mask = torch.zeros(n, dtype=torch.bool)
    mask[list(kept)] = True
    form = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    return mask.view(shape).contiguous(memory_format=form), torch.tensor(
        values, dtype=torch.float32
    ).view(shape).contiguous(memory_format=form)


@given(
    layers(),
    st.integers(0, 9),
    st.sampled_from(["largest", "smallest"]),
    st.sampled_from(["falling", "rising", "one", "all", "none"]),
)
def test_swaps_equal_sorted_lists_with_ties_and_in_any_memory_format(
    case: Any, step: int, pairs: Any, quota: Any
) -> None:
    kept, scores = case
    shares = {
        "falling": Fraction(10 - step, 10) ** 4,
        "rising": Fraction(step, 10) ** 4,
        "all": Fraction(1),
        "none": Fraction(0),
    }

    def q(n: int) -> int:
        return min(n, 1) if quota == "one" else ceil(n * shares[quota])

    before = kept.clone(), scores.clone()
    found = swap(kept, scores, int(kept.sum()), Restriction(quota, 4, pairs), step, 10, seeded())
    enter, leave, candidates = by_lists(kept, scores, q, low=pairs == "smallest")
    assert found.candidates == candidates
    assert (indices(found.enter), indices(found.leave)) == (enter, leave)
    assert found.pairs == len(enter)
    assert torch.equal(kept, before[0]) and torch.equal(scores, before[1])


def test_candidates_without_ties_lie_beyond_the_boundary_of_equation_28() -> None:
    scores = torch.randperm(1000, generator=seeded(1)).float()
    kept = torch.zeros(1000, dtype=torch.bool)
    kept[torch.randperm(1000, generator=seeded(2))[:100]] = True
    found = candidate_pairs(Before(kept, scores, 100))
    tau = scores.sort().values[900 - 1]  # the |Psi|-th smallest
    assert torch.equal(found.enter, ~kept & (scores > tau))
    assert torch.equal(found.leave, kept & (scores <= tau))
    assert int(found.enter.sum()) == int(found.leave.sum()) > 80  # nearly all of a random mask


def test_a_quota_swaps_the_pairs_with_the_largest_gain() -> None:
    # Kept: 0, 1, 2, 3. Top 4: 4 (9), 5 (8), 6 (7), 0 (6). Psi* = {4, 5, 6}, Phi* = {1, 2, 3} with
    # scores 5, 1, 3. ceil(3 (1 - 1/2)) = 2.
    kept, scores = layer([6.0, 5.0, 1.0, 3.0, 9.0, 8.0, 7.0, 0.0], [0, 1, 2, 3])
    found = swap(kept, scores, 4, Restriction("falling", 1), 1, 2, seeded())
    assert (indices(found.enter), indices(found.leave), found.candidates) == (
        {4, 5},
        {2, 3},
        3,
    )
    found = swap(kept, scores, 4, Restriction("falling", 1, "smallest"), 1, 2, seeded())
    assert (indices(found.enter), indices(found.leave)) == ({5, 6}, {1, 3})


def test_random_pairs_have_the_same_number_and_equally_likely_candidates() -> None:
    kept, scores = layer([5.0, 4.0, 3.0, 2.0, 1.0] + [10.0] * 5, [0, 1, 2, 3, 4])
    draws, restriction, rng = 2000, Restriction("falling", 1, "random"), seeded(5)
    seen = torch.zeros(2, 10)
    for _ in range(draws):
        found = swap(kept, scores, 5, restriction, 3, 5, rng)  # ceil(5 * 2/5) = 2
        assert int(found.enter.sum()) == int(found.leave.sum()) == 2
        seen += torch.stack([found.enter, found.leave])
    assert not seen[0, :5].any() and not seen[1, 5:].any()
    error = sqrt(0.4 * 0.6 / draws)
    assert ((torch.cat([seen[0, 5:], seen[1, :5]]) / draws - 0.4).abs() < 4 * error).all()


def test_the_quota_follows_its_formula_exactly() -> None:
    falling = Restriction()
    assert [falling.allowed(10_000, t, 10) for t in range(11)] == [
        10_000,
        6561,
        4096,
        2401,
        1296,
        625,
        256,
        81,
        16,
        1,
        0,
    ]
    assert [Restriction("rising").allowed(10_000, t, 10) for t in range(11)] == [
        0,
        1,
        16,
        81,
        256,
        625,
        1296,
        2401,
        4096,
        6561,
        10_000,
    ]
    # 6561.6561: the ceiling applies to the number of pairs, not to the rate
    assert falling.allowed(10_001, 1, 10) == 6562
    assert falling.allowed(1, 5879, 5880) == 1 and falling.allowed(0, 0, 10) == 0
    assert [Restriction("one").allowed(n, 0, 10) for n in (0, 1, 7)] == [0, 1, 1]
    assert (Restriction("all").allowed(7, 9, 10), Restriction("none").allowed(7, 0, 10)) == (7, 0)


@given(st.integers(0, 2_000_000), st.integers(1, 6000), st.integers(1, 8))
def test_the_quota_falls_from_all_candidates_to_none(
    candidates: int, steps: int, exponent: int
) -> None:
    restriction = Restriction("falling", exponent)
    points = [
        restriction.allowed(candidates, t, steps)
        for t in sorted({0, steps // 3, steps // 2, steps - 1, steps})
    ]
    assert points == sorted(points, reverse=True) and points[0] == candidates and points[-1] == 0


@pytest.mark.parametrize("n", [1, 2, 1000, FEW, 50_021])
@pytest.mark.parametrize("kind", ["normal", "two values", "rising", "constant"])
def test_both_selection_algorithms_equal_sorting(n: int, kind: str) -> None:
    normal = torch.randn(n, generator=seeded(n))
    values = {
        "normal": normal,
        "two values": torch.where(normal > 1.2, 1.0, 0.99),
        "rising": torch.arange(float(n)),
        "constant": torch.ones(n),
    }[kind]
    ordered = values.sort(descending=True).values
    for k in sorted({1, 2, n // 10, n // 2, n // 2 + 1, n - 1, n} & set(range(1, n + 1))):
        assert (
            float(by_sample(values.numpy(), k))
            == float(by_topk(values, k))
            == float(ordered[k - 1])
        ), k


def test_an_unrepresentative_sample_does_not_change_the_result() -> None:
    values = torch.zeros(2 * FEW)
    values[::61] = 5.0  # exactly the sampled entries
    assert float(by_sample(values.numpy(), 3 * FEW // 2)) == 0.0
    assert float(by_sample(values.numpy(), 10)) == 5.0


def test_a_score_that_is_nan_is_rejected() -> None:
    kept, scores = layer([1.0, float("nan"), 3.0, 4.0], [0, 1])
    with pytest.raises(
        FloatingPointError, match="NaN: the search has diverged; a smaller train.lr may help"
    ):
        swap(kept, scores, 2, Restriction(), 0, 1, seeded())


def test_flat_shares_the_memory_of_channels_last_convolutions() -> None:
    weight = (
        torch.arange(2 * 3 * 2 * 2.0).view(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    )
    assert flat(weight).data_ptr() == weight.data_ptr()
    assert flat(weight)[:3].tolist() == weight[0, :, 0, 0].tolist() == [0, 4, 8]
    assert flat(weight.contiguous()).tolist() == list(range(24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"quota": "ours"},
            "method.search.quota='ours' must be one of falling, rising, one, all, none",
        ),
        ({"pairs": "best"}, "method.search.pairs='best' must be one of largest, smallest, random"),
        ({"exponent": 0}, "method.search.exponent=0 must be at least 1"),
        (
            {"quota": "all", "pairs": "random"},
            "method.search.pairs=random: quota=all leaves no choice",
        ),
        ({"quota": "one", "exponent": 2}, "method.search.exponent=2: quota=one has no exponent"),
    ],
)
def test_invalid_options_are_reported(options: Any, message: str) -> None:
    (problem,) = Restriction(**options).problems()
    assert message in problem
