"""Selections by rank, exact and in any memory format. Ties go to the lower index.

On the host, a sample gives the threshold, and only ties are sorted: a selection costs a few
comparisons per weight. On other devices nothing is copied to the host.
"""

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


def top_k(scores: Tensor, boundary: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """The k largest of `scores` (of those `among`), of which `boundary` is the smallest.

    Bool, of the scores' shape and memory format. Of equal scores, those with the lower index are
    taken.
    """
    if scores.device.type == "cpu":
        return _top_k_on_host(scores, boundary, k, among)
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
    return tensor.permute(_slowest_first(tensor)).view(-1)


def kth_largest(values: Tensor, k: int) -> Tensor:
    """The k-th largest of `values` (n,), as a tensor () on their device; k from 1 to n."""
    if values.device.type == "cpu":
        return torch.from_numpy(by_sample(values.detach().numpy(), k))
    return by_topk(values, k)


def by_topk(values: Tensor, k: int) -> Tensor:
    """`kth_largest` without a transfer to the host."""
    small = k <= len(values) // 2
    count = k if small else len(values) + 1 - k
    # torch.kthvalue has no deterministic CUDA implementation.
    few = torch.topk(values, count, largest=small, sorted=False).values
    return few.min() if small else few.max()


def by_sample(values: np.ndarray, k: int) -> np.ndarray:
    """`kth_largest` for NumPy, in a tenth of topk's time (measured).

    A sample gives an interval for the result; only the values in it are partitioned.
    """
    n = len(values)
    if n >= FEW:
        sample = np.sort(values[::EVERY])
        m = len(sample)
        # Three standard errors; a result outside this interval is found by a full partition.
        place, spread = m * (n - k) / n, 3 * sqrt(m * (k / n) * (1 - k / n)) + 1
        low, high = sample[max(0, int(place - spread))], sample[min(m - 1, int(place + spread))]
        # The ends are left out: of one value, such as a score of pruned weights, there may be many.
        above = int(np.count_nonzero(values >= high))
        between = values[(values > low) & (values < high)]
        if above < k <= above + len(between):
            values, k, n = between, k - above, len(between)
    return np.asarray(np.partition(values, n - k)[n - k])


def _top_k_on_host(scores: Tensor, boundary: Tensor, k: int, among: Tensor | None) -> Tensor:
    # NumPy compares and counts in a quarter of PyTorch's time (measured).
    found = torch.empty_like(scores, dtype=torch.bool)
    np.greater_equal(flat(scores.detach()).numpy(), boundary.numpy(), out=flat(found).numpy())
    if among is not None:
        found &= among
    surplus = int(np.count_nonzero(flat(found).numpy())) - k
    if surplus > 0:
        places = flat(found & (scores == boundary)).nonzero().flatten()
        flat(found)[places[_index(places, scores).argsort()][-surplus:]] = False
    return found


def _slowest_first(tensor: Tensor) -> list[int]:
    """Dimensions by decreasing stride."""
    if tensor.is_contiguous():
        return list(range(tensor.dim()))
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)


def _index(places: Tensor, tensor: Tensor) -> Tensor:
    """Convert places in memory to indices of the flattened tensor."""
    index = torch.zeros_like(places)
    for d in reversed(_slowest_first(tensor)):
        index += places % tensor.shape[d] * tensor.shape[d + 1 :].numel()
        places = places // tensor.shape[d]
    return index
