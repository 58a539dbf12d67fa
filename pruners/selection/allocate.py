"""Number of weights that each layer keeps: the option group `allocate`.

An allocation is `(scores, masks, density, left) -> {name: count}`. The counts add up to exactly
round(density * prunable) (docs/decisions.md 4), unless it says that it is not `exact`. No count
exceeds the number of weights left in its layer: pruned weights stay pruned. `SmartRatio` has a
module of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol

from torch import Tensor

from pruners.base import (
    Masks,
    Scores,
    count_kept,
    count_prunable,
    keep_count,
    kept_by_layer,
)
from pruners.selection.ranked import Ranked


class Allocation(Protocol):
    """Number of weights that each layer keeps.

    `reads_scores` is False if it depends on the masks and the density alone. Otherwise it raises
    `FloatingPointError` for a score that is NaN or infinite (`Ranked`). `exact` is False if the
    counts may add up to another number than round(density * prunable). `left` is the number of
    weights left in each layer, for callers that have counted them; None = it is counted, by a copy
    to the host.
    """

    @property
    def tag(self) -> str: ...

    @property
    def reads_scores(self) -> bool: ...

    @property
    def exact(self) -> bool: ...

    def __call__(
        self,
        scores: Scores,
        masks: Masks,
        density: float,
        left: Mapping[str, int] | None = None,
    ) -> dict[str, int]: ...


def check_counts(allocate: Allocation, masks: Masks, density: float) -> None:
    """Check that an allocation that reads no scores gives every layer a possible number.

    Raises:
        ValueError: as the allocation.
    """
    if not allocate.reads_scores:
        allocate({}, masks, density)


@dataclass(frozen=True)
class Global:
    """The counts of the global top K: one threshold for all layers.

    Ties go to the earlier layer, and within a layer to the lower index.
    """

    tag: ClassVar[str] = "global"
    reads_scores: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def __call__(
        self,
        scores: Scores,
        masks: Masks,
        density: float,
        left: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`, by one copy to the host.

        Raises:
            FloatingPointError: a score is NaN or infinite.
        """
        ranked = Ranked.of(scores, masks)
        _, keep = ranked.count(self.select(ranked, density))
        return keep

    def select(self, ranked: Ranked, density: float) -> Tensor:
        """The weights themselves, bool (n,), by one copy to the host.

        Raises:
            FloatingPointError: a score is NaN or infinite.
        """
        total = keep_count(density, len(ranked.scores))
        chosen, lowest = ranked.top(total)
        if lowest == -math.inf:
            (there,) = ranked.count()
            refuse_growth(density, total, sum(there.values()))
        return chosen


@dataclass(frozen=True)
class Layer:
    """The same density in every layer, to within one weight.

    A layer with fewer weights left than its share keeps them all; the others share the difference.
    """

    tag: ClassVar[str] = "layer"
    reads_scores: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def __call__(
        self,
        scores: Scores,
        masks: Masks,
        density: float,
        left: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`."""
        shares = {name: Fraction(density) * mask.numel() for name, mask in masks.items()}
        left = kept_by_layer(masks) if left is None else left
        return apportion(shares, left, weights_to_keep(masks, density, left))


@dataclass(frozen=True)
class Erk:
    """Erdos-Renyi-Kernel: a layer's density is proportional to sum(shape) / prod(shape).

    Small layers therefore stay denser (RigL, arXiv:1911.11134, Sec. 3). For a linear layer this is
    SET's Erdos-Renyi, (n_in + n_out) / (n_in n_out). A layer that would need more weights than it
    has keeps them all, and the factor of the others grows until the total is met. The authors do so
    for one largest density at a time; the result is the same, because the factor only grows. They
    round the number of pruned weights of each layer down; here the total is exact
    (docs/decisions.md 4).
    """

    tag: ClassVar[str] = "erk"
    reads_scores: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def __call__(
        self,
        scores: Scores,
        masks: Masks,
        density: float,
        left: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`."""
        left = kept_by_layer(masks) if left is None else left
        total = weights_to_keep(masks, density, left)
        lengths = {name: sum(mask.shape) for name, mask in masks.items()}
        shares = {
            name: Fraction(total * length, sum(lengths.values()))
            for name, length in lengths.items()
        }
        return apportion(shares, left, total)


def weights_to_keep(masks: Masks, density: float, left: Mapping[str, int] | None = None) -> int:
    """round(density * prunable), if that many weights are left.

    Args:
        left: weights left in each layer, if they have been counted.

    Raises:
        ValueError: the density keeps no weight, or more than earlier pruning has left.
    """
    total = keep_count(density, count_prunable(masks))
    refuse_growth(density, total, count_kept(masks) if left is None else sum(left.values()))
    return total


def refuse_growth(density: float, total: int, left: int) -> None:
    """Raise an error if more weights are to be kept than earlier pruning has left."""
    if total > left:
        raise ValueError(
            f"density={density:g} requires {total:,} weights, but earlier pruning left {left:,}:"
            " masks only shrink; take a lower density"
        )


def apportion(
    shares: Mapping[str, Fraction], limits: Mapping[str, int], total: int
) -> dict[str, int]:
    """Integers near `shares` that add up to `total`, each at most its limit.

    Shares are rounded down. The rest goes to the largest remainders, ties to the earlier name.

    Args:
        shares: >= 0, adding up to `total` within one half: the shares of a density add up to
            density * prunable, and `total` is that number rounded.
        limits: upper bounds. Shares above them are cut, and the other shares grow in proportion.
    """
    shares = dict(shares)
    while over := [name for name, share in shares.items() if share > limits[name]]:
        shares.update({name: Fraction(limits[name]) for name in over})
        free = [name for name, share in shares.items() if share < limits[name]]
        rest = total - sum(share for name, share in shares.items() if name not in free)
        scale = (
            rest / sum((shares[name] for name in free), start=Fraction(0)) if free else Fraction(1)
        )
        shares.update({name: shares[name] * scale for name in free})
    counts = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])  # stable
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
