"""Selections by rank, exact and in any memory format. Ties go to the lower index.

On the host, a sample gives the threshold, and only ties are sorted: a selection costs a few
comparisons per weight. On other devices nothing is copied to the host.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np
import torch
from torch import Tensor

FEW = 1 << 14  # below this number of scores no sample is taken
EVERY = 61  # stride of the sample; not a multiple of the length of a row


def largest(scores: Tensor, k: int) -> Tensor:
    """Bool with True at the k largest of `scores`, of their shape and memory format.

    Exactly k entries are True. `k` is from 0 to their number, and no score is NaN.
    """
    if not k:
        return torch.zeros_like(scores, dtype=torch.bool)
    return top_k(scores, kth_largest(flat(scores), k), k)


def top_k(
    scores: Tensor,
    boundary: Tensor,
    k: int,
    among: Tensor | None = None,
    index: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The k largest of `scores` (of those `among`), of which `boundary` is the smallest.

    Bool, of the scores' shape and memory format. Of equal scores, those with the lower index are
    taken.

    Args:
        index: converts places (m,) in the memory of scores on the host to indices (m,). Default:
            those of the flattened tensor.
    """
    if scores.device.type == "cpu":
        return _top_k_on_host(scores, boundary, k, among, index or partial(_index, tensor=scores))
    above, ties = scores > boundary, scores == boundary
    if among is not None:
        above, ties = above & among, ties & among
    room = k - above.count_nonzero()
    return above | (ties & (ties.flatten().cumsum(0).view(ties.shape) <= room))


def nth_true(mask: Tensor, ranks: Tensor) -> Tensor:
    """Indices of the True entries of `mask` (n,) with these ranks, which begin at 0."""
    if mask.device.type == "cpu":
        return mask.nonzero().flatten()[ranks]
    return torch.searchsorted(mask.cumsum(0), ranks + 1)  # the host would wait for `nonzero`


def flat(tensor: Tensor) -> Tensor:
    """A tensor's entries (n,) in memory order, as a view.

    Convolution weights are channels-last; reordering them would cost more than all other operations
    here.
    """
    return tensor.permute(slowest_first(tensor)).view(-1)


def kth_largest(values: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """The k-th largest of `values` (n,), as a tensor () on their device; k from 1 to n.

    Args:
        among: bool (n,) with at least k True, for values on the host: the others do not count.
    """
    if values.device.type == "cpu":
        left = None if among is None else among.numpy()
        return torch.from_numpy(by_sample(values.detach().numpy(), k, left))
    return by_topk(values, k)


def by_topk(values: Tensor, k: int) -> Tensor:
    """`kth_largest` without a transfer to the host."""
    small = k <= len(values) // 2
    count = k if small else len(values) + 1 - k
    # torch.kthvalue has no deterministic CUDA implementation.
    few = torch.topk(values, count, largest=small, sorted=False).values
    return few.min() if small else few.max()


def by_sample(values: np.ndarray, k: int, among: np.ndarray | None = None) -> np.ndarray:
    """`kth_largest` for NumPy, in a tenth of topk's time (measured).

    A sample gives an interval for the result; only the values in it are partitioned.
    """
    sample = values[::EVERY] if among is None else values[::EVERY][among[::EVERY]]
    m = len(sample)
    n = len(values) if among is None else int(np.count_nonzero(among))
    if n >= FEW and m:
        sample = np.sort(sample)
        # Three standard errors; a result outside this interval is found by a full partition.
        place, spread = m * (n - k) / n, 3 * sqrt(m * (k / n) * (1 - k / n)) + 1
        low, high = sample[max(0, int(place - spread))], sample[min(m - 1, int(place + spread))]
        # The ends are left out: of one value, such as a score of pruned weights, there may be many.
        above, inside = values >= high, (values > low) & (values < high)
        if among is not None:
            above, inside = above & among, inside & among
        more, between = int(np.count_nonzero(above)), values[inside]
        if more < k <= more + len(between):
            return _kth(between, k - more)
    return _kth(values if among is None else values[among], k)


def _kth(values: np.ndarray, k: int) -> np.ndarray:
    place = len(values) - k
    return np.asarray(np.partition(values, place)[place])


def _top_k_on_host(
    scores: Tensor,
    boundary: Tensor,
    k: int,
    among: Tensor | None,
    index: Callable[[Tensor], Tensor],
) -> Tensor:
    # NumPy compares and counts in a quarter of PyTorch's time (measured).
    found = torch.empty_like(scores, dtype=torch.bool)
    np.greater_equal(flat(scores.detach()).numpy(), boundary.numpy(), out=flat(found).numpy())
    if among is not None:
        found &= among
    surplus = int(np.count_nonzero(flat(found).numpy())) - k
    if surplus > 0:
        places = flat(found & (scores == boundary)).nonzero().flatten()
        flat(found)[places[index(places).argsort()][-surplus:]] = False
    return found


def slowest_first(tensor: Tensor) -> list[int]:
    """Dimensions by decreasing stride."""
    if tensor.is_contiguous():
        return list(range(tensor.dim()))
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)


def _index(places: Tensor, tensor: Tensor) -> Tensor:
    """Convert places in memory to indices of the flattened tensor."""
    index = torch.zeros_like(places)
    for d in reversed(slowest_first(tensor)):
        index += places % tensor.shape[d] * tensor.shape[d + 1 :].numel()
        places = places // tensor.shape[d]
    return index
