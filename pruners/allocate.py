"""How many weights each layer keeps: the option group `allocate`. An allocation is `(scores, masks, density) -> {name: count}`.

The counts add up to exactly round(density * prunable) (decisions.md 4), and none exceeds the weights that its layer still has: what is pruned stays pruned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch

from pruners.base import Masks, Scores, count_kept, count_prunable, keep_count, largest


@dataclass(frozen=True)
class Global:
    """The counts of the global top K: one threshold for all layers. Ties go to the earlier layer, and inside it to the lower index."""

    def __call__(self, scores: Scores, masks: Masks, density: float) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`."""
        total = weights_to_keep(masks, density)
        # Pruned weights sort behind all others, and `total` never reaches them.
        flat = torch.cat([scores[name].masked_fill(~mask, -torch.inf).flatten() for name, mask in masks.items()])
        layers = largest(flat, total).split([mask.numel() for mask in masks.values()])
        return {name: int(layer.sum()) for name, layer in zip(masks, layers, strict=True)}


@dataclass(frozen=True)
class Layer:
    """The same density in every layer, to within one weight.

    A layer that has fewer weights left than its share keeps them all; the others share what that leaves.
    """

    def __call__(self, scores: Scores, masks: Masks, density: float) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`."""
        shares = {name: Fraction(density) * mask.numel() for name, mask in masks.items()}
        alive = {name: int(mask.sum()) for name, mask in masks.items()}
        return apportion(shares, alive, weights_to_keep(masks, density))


def weights_to_keep(masks: Masks, density: float) -> int:
    """round(density * prunable), if that many weights are left.

    Raises:
        ValueError: the density keeps none, or more than earlier pruning has left.
    """
    total, left = keep_count(density, count_prunable(masks)), count_kept(masks)
    if total > left:
        raise ValueError(f"density={density:g} asks for {total:,} weights but earlier pruning left {left:,}: masks only shrink, take a lower density")
    return total


def apportion(shares: Mapping[str, Fraction], limits: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers near `shares` that add up to `total`: floors first, the rest to the largest remainders, ties to the earlier name.

    Args:
        shares: >= 0, adding up to `total` within one half: a density's shares add up to density * prunable, `total` is that rounded.
        limits: no number exceeds its limit. Shares above it are cut to it, and the remaining shares grow in proportion.
    """
    shares = dict(shares)
    while over := [name for name, share in shares.items() if share > limits[name]]:
        shares.update({name: Fraction(limits[name]) for name in over})
        free = [name for name, share in shares.items() if share < limits[name]]
        rest = total - sum(share for name, share in shares.items() if name not in free)
        scale = rest / sum((shares[name] for name in free), start=Fraction(0)) if free else Fraction(1)
        shares.update({name: shares[name] * scale for name in free})
    counts = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])  # stable
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
