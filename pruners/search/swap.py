"""One step of a mask search in one layer: weights on the wrong side of the top k, and swaps.

"Lottery Jackpots Exist in Pre-trained Models" (Zhang et al., arXiv:2104.08700), Eqs. 28 to 30 and
32. Phi* are the kept weights that are no longer among the k largest scores; Psi* are the pruned
weights that now are. Both sets have the same size; q_t pairs of them swap.

Eq. 28 as printed takes the |Psi|-th largest score for the boundary. It has to be the |Psi|-th
smallest, as in the authors' code. Of equal scores the one with the lower index counts as the
larger, so that Phi* and Psi* always have the same size; where ties make the sizes differ, the
authors' code does nothing in that layer.

Scores and masks stay on their device. A step copies three counts of every layer to the host, all at
once: Eq. 29 is computed there, in exact arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from pruners.selection.ranks import flat, kth_largest, nth_true, top_k

Quota = Literal["falling", "rising", "one", "all", "none"]
Pairs = Literal["largest", "smallest", "random"]


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
class Before:
    """A layer before the swaps of a step.

    Args:
        kept: bool with k True entries, 0 < k < number of entries.
        scores: float, of the shape and memory format of `kept`.
    """

    kept: Tensor
    scores: Tensor
    k: int


@dataclass(frozen=True)
class Swap:
    """The swaps of one step in one layer.

    Args:
        enter, leave: the weights that enter and leave the mask: bool of the mask's shape.
        pairs: number of True entries in each of them.
        candidates: number of pairs that could have swapped.
    """

    enter: Tensor
    leave: Tensor
    pairs: int
    candidates: int


def swaps(
    layers: Mapping[str, Before], restriction: Restriction, step: int, steps: int, rng: Generator
) -> dict[str, Swap]:
    """The swaps of one step in each layer (Eqs. 28 to 30). The layers are not changed.

    Args:
        rng: for random pairs; not used otherwise.

    Raises:
        FloatingPointError: a score is NaN.
    """
    random = restriction.pairs == "random"
    found = {name: candidate_pairs(layer, random) for name, layer in layers.items()}
    counts = _counts(found)
    for name, layer in layers.items():
        if counts[name][0] != counts[name][1]:
            raise FloatingPointError(
                f"a score of a layer of {layer.kept.numel():,} weights is NaN: the search has"
                " diverged; a smaller train.lr may help"
            )
    chosen = {}
    for name, (candidates, _, tied) in counts.items():
        q = restriction.allowed(candidates, step, steps)
        enter, leave = found[name].enter, found[name].leave
        if q < candidates and random:
            enter, leave = _random(found[name], q, candidates, tied, rng)
        elif q < candidates:
            enter, leave = _ranked(layers[name].scores, found[name], q, candidates, restriction)
        chosen[name] = Swap(enter, leave, q, candidates)
    return chosen


@dataclass(frozen=True)
class Candidates:
    """Psi* and Phi* of a layer, of equal size: bool of the mask's shape.

    Args:
        enter: Psi*, pruned weights among the k largest scores.
        leave: Phi*, kept weights that are not.
        tied: those of `leave` whose score equals the k-th largest; empty if not asked for.
    """

    enter: Tensor
    leave: Tensor
    tied: Tensor


def candidate_pairs(layer: Before, tied: bool = False) -> Candidates:
    """Psi* and Phi* (Eq. 28), without a copy to the host.

    If a score is NaN, their sizes differ.
    """
    boundary = kth_largest(flat(layer.scores), layer.k)
    largest = top_k(layer.scores, boundary, layer.k)
    leave = layer.kept & ~largest
    last = leave & (layer.scores == boundary) if tied else leave.new_zeros(0)
    return Candidates(largest & ~layer.kept, leave, last)


def _counts(found: Mapping[str, Candidates]) -> dict[str, tuple[int, int, int]]:
    """Sizes of `enter`, `leave` and `tied` of each layer, by one copy to the host."""
    if not found:
        return {}
    masks = (mask for each in found.values() for mask in (each.enter, each.leave, each.tied))
    sizes = iter(torch.stack([mask.count_nonzero() for mask in masks]).tolist())
    return dict(zip(found, zip(sizes, sizes, sizes, strict=True), strict=True))


def _ranked(
    scores: Tensor, found: Candidates, q: int, candidates: int, restriction: Restriction
) -> tuple[Tensor, Tensor]:
    """The q of `candidates` pairs with the largest or smallest expected decrease (Eq. 30)."""
    if restriction.pairs == "largest":
        stay = _largest_of(scores, found.leave, candidates - q)
        return _largest_of(scores, found.enter, q), found.leave & ~stay
    stay = _largest_of(scores, found.enter, candidates - q)
    return found.enter & ~stay, _largest_of(scores, found.leave, q)


def _random(
    found: Candidates, q: int, candidates: int, tied: int, rng: Generator
) -> tuple[Tensor, Tensor]:
    """q of `candidates` weights of each side, drawn on the CPU.

    Weights are numbered in memory order. The `tied` ones are the last of `leave`, by index.
    """
    enter, leave = (torch.randperm(candidates, generator=rng)[:q] for _ in range(2))
    below = candidates - tied
    last = leave[leave >= below] - below
    return (
        _numbered(found.enter, enter),
        _numbered(found.leave & ~found.tied, leave[leave < below])
        | _numbered(found.tied.contiguous(), last),
    )


def _numbered(mask: Tensor, numbers: Tensor) -> Tensor:
    """The True entries of `mask` with these numbers (q,), counted in memory order."""
    chosen = torch.zeros_like(mask)
    places = nth_true(flat(mask), numbers.to(mask.device, non_blocking=True))
    flat(chosen)[places] = True
    return chosen


def _largest_of(scores: Tensor, among: Tensor, q: int) -> Tensor:
    """The q largest scores of those `among` (bool), which are at least q: bool of their shape."""
    if not q:
        return torch.zeros_like(among)
    if scores.device.type == "cpu":
        boundary = kth_largest(flat(scores)[flat(among)], q)
    else:  # selecting the entries would copy their number to the host
        boundary = kth_largest(flat(scores.masked_fill(~among, -torch.inf)), q)
    return top_k(scores, boundary, q, among)
