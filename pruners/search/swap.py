"""One step of a mask search in one layer: weights on the wrong side of the top k, and swaps.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Eqs. 28 to 30 and
32. Phi* are the kept weights that are no longer among the k largest scores; Psi* are the pruned
weights that now are. Both sets have the same size; q_t pairs of them swap.

Eq. 28 as printed takes the |Psi|-th largest score for the boundary. It has to be the |Psi|-th
smallest, as in the authors' code. Of equal scores the one with the lower index counts as the
larger, so that Phi* and Psi* always have the same size; where ties make the sizes differ, the
authors' code does nothing in that layer.

Scores and masks stay on their device; only counts reach the host. Only a sample and ties are
sorted: a selection costs a few comparisons per weight.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, sqrt
from typing import Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor

Quota = Literal["falling", "rising", "one", "all", "none"]
Pairs = Literal["largest", "smallest", "random"]
FEW = 1 << 14  # below this number of scores no sample is taken
EVERY = 61  # stride of the sample; not a multiple of the length of a row


@dataclass(frozen=True)
class Restriction:
    """How many pairs may swap in a step, and which.

    Args:
        quota: `falling`: ceil(|Psi*| (1 - t/t_f)^exponent), Eq. 29. `rising`: ceil(|Psi*|
            (t/t_f)^exponent), Eq. 32. `one` pair and `all` are the two readings of the paper's
            constant schedule, which it describes as q_t = 1 and as equal to edge-popup. `none`: the
            mask never changes.
        exponent: Default 4: Eq. 29.
        pairs: those with the `largest` expected decrease of the loss (Eq. 30: the largest scores of
            Psi*, the smallest of Phi*), the `smallest`, or `random` ones (Table 8).
    """

    quota: Quota = "falling"
    exponent: int = 4
    pairs: Pairs = "largest"

    def problems(self) -> list[str]:
        """Messages about invalid options, one line each."""
        chosen = {"quota": (self.quota, get_args(Quota)), "pairs": (self.pairs, get_args(Pairs))}
        found = [
            f"method.search.{key}={value!r} must be one of {', '.join(among)}"
            for key, (value, among) in chosen.items()
            if value not in among
        ]
        if self.exponent < 1:
            found.append(
                f"method.search.exponent={self.exponent} must be at least 1, 4 in the paper"
            )
        if self.exponent != Restriction.exponent and self.quota in ("one", "all", "none"):
            found.append(
                f"method.search.exponent={self.exponent}: quota={self.quota} has no exponent; leave"
                " it out, or take quota=falling"
            )
        if self.quota in ("all", "none") and self.pairs != "largest":
            found.append(
                f"method.search.pairs={self.pairs}: quota={self.quota} leaves no choice of"
                " pairs; leave it out, or take quota=falling"
            )
        return found

    def allowed(self, candidates: int, step: int, steps: int) -> int:
        """q_t of `candidates` pairs in step 0, 1, ... of `steps`, in exact arithmetic."""
        shares = {"falling": Fraction(steps - step, steps), "rising": Fraction(step, steps)}
        if self.quota in shares:
            return ceil(candidates * shares[self.quota] ** self.exponent)
        return {"one": min(candidates, 1), "all": candidates, "none": 0}[self.quota]


@dataclass(frozen=True)
class Swap:
    """The swaps of one step, as places in `flat`.

    Args:
        enter, leave: places of the weights that enter and leave the mask, equally many.
        candidates: number of pairs that could have swapped.
    """

    enter: Tensor
    leave: Tensor
    candidates: int


def swap(
    kept: Tensor,
    scores: Tensor,
    k: int,
    restriction: Restriction,
    step: int,
    steps: int,
    rng: Generator,
) -> Swap:
    """The swaps of one step (Eqs. 28 to 30). The arguments are not changed.

    Args:
        kept: bool with k True entries, 0 < k < number of entries.
        scores: float, of the shape and memory format of `kept`.
        rng: for random pairs; not used otherwise.
    """
    values = flat(scores)
    enter, leave = candidate_pairs(kept, scores, k)
    candidates = len(enter)
    q = restriction.allowed(candidates, step, steps)
    if q < candidates and restriction.pairs == "random":
        enter, leave = (
            places[torch.randperm(candidates, generator=rng)[:q].to(places.device)]
            for places in (enter, leave)
        )
    elif q < candidates:
        low = restriction.pairs == "smallest"
        enter = _most(values, enter, q, kept, smallest=low)
        leave = _most(values, leave, q, kept, smallest=not low)
    return Swap(enter, leave, candidates)


def flat(tensor: Tensor) -> Tensor:
    """A tensor's entries (n,) in memory order, as a view.

    Convolution weights are channels-last; reordering them would cost more than all other operations
    here.
    """
    return tensor.permute(_slowest_first(tensor)).view(-1)


def candidate_pairs(kept: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places in `flat` of the candidates Psi* and Phi*, which have the same size (Eq. 28).

    Psi* are pruned weights among the k largest scores, Phi* kept weights that are not.

    Raises:
        FloatingPointError: a score is NaN.
    """
    values, now = flat(scores), flat(kept)
    boundary = kth_largest(values, k)
    # Kept weights compared with the k largest, including those equal to the k-th.
    wrong = (values >= boundary).logical_xor_(now).nonzero().flatten()
    was = now[wrong]
    enter, leave = wrong[~was], wrong[was]
    surplus = len(enter) - len(leave)
    if surplus:
        ties = (values == boundary).nonzero().flatten()
        last = ties[_index(ties, kept).argsort()][len(ties) - surplus :]
        enter = enter[torch.isin(enter, last, invert=True)]
        leave = torch.cat([leave, last[now[last]]])
    if len(enter) != len(leave):
        raise FloatingPointError(
            f"a score of a layer of {kept.numel():,} weights is NaN: the search has diverged; a"
            " smaller train.lr may help"
        )
    return enter, leave


def largest_of(values: Tensor, places: Tensor, q: int, like: Tensor) -> Tensor:
    """Indices in `values` (c,) of the q largest, q from 0 to c.

    Of equal values those with the lower index in the tensor `like` are taken. `places` (c,) are the
    positions of the values in `flat(like)`.
    """
    if not q:
        return places[:0]
    boundary = kth_largest(values, q)
    above, ties = (values > boundary).nonzero().flatten(), (values == boundary).nonzero().flatten()
    return torch.cat([above, ties[_index(places[ties], like).argsort()][: q - len(above)]])


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
        above = int(np.count_nonzero(values > high))
        between = values[(values >= low) & (values <= high)]
        if above < k <= above + len(between):
            values, k, n = between, k - above, len(between)
    return np.asarray(np.partition(values, n - k)[n - k])


def _most(values: Tensor, places: Tensor, q: int, like: Tensor, smallest: bool) -> Tensor:
    """The q `places` with the largest (or smallest) values.

    Of equal values, the one with the lower index counts as the larger.
    """
    chosen = torch.full_like(places, smallest, dtype=torch.bool)
    count = len(places) - q if smallest else q
    chosen[largest_of(values[places], places, count, like)] = not smallest
    return places[chosen]


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
