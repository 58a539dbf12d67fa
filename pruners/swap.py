"""One step of a mask search, a layer at a time: which weights have come to the wrong side of the top k, and which of them change sides.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Eqs. 28 to 30 and 32. Kept weights that are no longer among the k largest
scores (Phi*) and pruned weights that now are (Psi*) are equally many; q_t pairs of them swap. Nothing here looks at the whole layer but comparisons and one
selection: what is sorted are the weights at the boundary. All stays on the scores' device; the host learns how many there are, nothing else.

Eq. 28 as printed takes the |Psi|-th largest score for the boundary; it has to be the |Psi|-th smallest, as the authors' code has it. Where scores are equal at
the boundary, the lower index counts as the larger: Phi* and Psi* stay equally large, where the authors' code then does nothing in that layer.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor

Quota = Literal["falling", "rising", "one", "all", "none"]
Pairs = Literal["largest", "smallest", "random"]
BELOW_ONE = 1 - 2.0**-51  # rounding of a product must not lift a whole number over the next one's threshold


@dataclass(frozen=True)
class Restriction:
    """How many pairs may swap in a step, and which.

    Args:
        quota: `falling`: ceil(|Psi*| (1 - t/t_f)^exponent), Eq. 29. `rising`: ceil(|Psi*| (t/t_f)^exponent), Eq. 32. `one` pair and `all` are the two readings
            of the paper's constant schedule, which it calls q_t = 1 and the same as edge-popup. `none`: the mask never changes.
        exponent: Default 4: Eq. 29.
        pairs: those with the `largest` expected drop of the loss (Eq. 30: the largest scores of Psi*, the smallest of Phi*), the `smallest`, or `random` ones
            (Table 8).
    """

    quota: Quota = "falling"
    exponent: int = 4
    pairs: Pairs = "largest"

    def problems(self) -> list[str]:
        """What is wrong with the options, a line each."""
        chosen = {"quota": (self.quota, get_args(Quota)), "pairs": (self.pairs, get_args(Pairs))}
        found = [f"method.search.{key}={value!r} must be one of {', '.join(among)}" for key, (value, among) in chosen.items() if value not in among]
        if self.exponent < 1:
            found.append(f"method.search.exponent={self.exponent} must be at least 1, 4 in the paper")
        if self.quota in ("all", "none") and self.pairs != "largest":
            found.append(f"method.search.pairs={self.pairs}: with quota={self.quota} there is nothing to choose; leave it out, or take quota=falling")
        return found

    def share(self, step: int, steps: int) -> Fraction:
        """Of the candidate pairs, those that may swap in step 0, 1, ... of `steps`; `one` has no share."""
        shares = {"falling": Fraction(steps - step, steps) ** self.exponent, "rising": Fraction(step, steps) ** self.exponent}
        return shares.get(self.quota, Fraction(self.quota == "all"))

    def pairs_allowed(self, candidates: Tensor, step: int, steps: int) -> Tensor:
        """q_t for |Psi*| = `candidates` (), both whole numbers on the device."""
        if self.quota == "one":
            return candidates.clamp(max=1)
        return torch.ceil(candidates.double() * (float(self.share(step, steps)) * BELOW_ONE)).long()


def flat(tensor: Tensor) -> Tensor:
    """A tensor's entries (n,) in the order of memory, sharing it: convolutions are channels-last, and reordering them would cost more than all else here."""
    return tensor.permute(_slowest_first(tensor)).view(-1)


def contested(kept: Tensor, scores: Tensor, k: int) -> Tensor:
    """Positions in `flat` (c,) at which `kept` and the k largest scores may differ, from the largest score down; equal scores by index of the tensor.

    All other kept weights score above the k-th largest, all other pruned ones below.

    Args:
        kept: bool, with k True; scores: float; of one shape and memory format.
        k: from 1 to the number of entries.
    """
    values, now = flat(scores), flat(kept)
    boundary = kth_largest(values, k)
    places = (values >= boundary).logical_xor_(now).logical_or_(values == boundary).nonzero().flatten()  # (c,)
    if _slowest_first(kept) != list(range(kept.dim())):
        places = places[_index(places, kept).argsort()]
    return places[values[places].argsort(descending=True, stable=True)]


def swapped(kept: Tensor, restriction: Restriction, step: int, steps: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Who is kept after the swaps among contested weights, and (2,) the numbers of pairs that swapped and that could have.

    Args:
        kept: bool (c,), from the largest score down.
        rng: for random pairs; nothing is drawn for others.
    """
    top = torch.arange(len(kept), device=kept.device) < kept.sum()
    enter, leave = top & ~kept, kept & ~top  # Psi*, Phi*: equally many
    candidates = enter.sum()
    allowed = restriction.pairs_allowed(candidates, step, steps)
    if restriction.pairs == "random":
        order = torch.rand(len(kept), generator=rng).to(kept.device).argsort()
        first, last = _rank(enter, order), _rank(leave, order)
    else:
        first, last = enter.cumsum(0), candidates + 1 - leave.cumsum(0)  # counted from the largest score of Psi*, from the smallest of Phi*
        if restriction.pairs == "smallest":
            first, last = candidates + 1 - first, candidates + 1 - last
    after = (kept & ~(leave & (last <= allowed))) | (enter & (first <= allowed))
    return after, torch.stack([allowed, candidates])


def kth_largest(values: Tensor, k: int) -> Tensor:
    """The k-th largest of `values` (n,), as a tensor () on their device; k from 1 to n."""
    n = len(values)
    if values.device.type == "cpu":  # NumPy selects in a third of the time that torch takes (measured)
        return torch.from_numpy(np.partition(values.detach().numpy(), n - k)[n - k : n - k + 1])[0]
    few = torch.topk(values, min(k, n + 1 - k), largest=k <= n + 1 - k, sorted=False).values  # kthvalue has no deterministic form on CUDA
    return few.min() if k <= n + 1 - k else few.max()


def _rank(members: Tensor, order: Tensor) -> Tensor:
    """From 1 up, the place of each member among the members in `order` (c,)."""
    ranks = torch.empty_like(order)
    ranks[order] = members[order].cumsum(0)
    return ranks


def _slowest_first(tensor: Tensor) -> list[int]:
    """Dimensions by how far apart in memory neighbours are; those with one entry stay where they are told apart by none."""
    if tensor.is_contiguous():
        return list(range(tensor.dim()))
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)


def _index(places: Tensor, tensor: Tensor) -> Tensor:
    """Positions in memory -> indices of the flattened tensor."""
    index = torch.zeros_like(places)
    for d in reversed(_slowest_first(tensor)):
        beyond = tensor.shape[d + 1 :].numel()
        index += places % tensor.shape[d] * beyond
        places = places // tensor.shape[d]
    return index
