"""Masks of the largest scores: IMC's prune stage, once every weight has a score."""

import math

import torch
from torch import Tensor

from pruners.base import Masks, Scores, count_kept


def select(
    scores: Scores, masks: Masks, kept: int, scope: str = "global", min_layer_keep: float = 0.0
) -> Masks:
    """Masks of the `kept` largest scores over all layers; ties go to the lower index.

    Exactly `kept` entries are True. Weights that `masks` has pruned stay pruned.

    Args:
        scope: `layer` gives every layer the same density, by largest remainders.
        min_layer_keep: share of each layer's weights, rounded up, that stays (or all unpruned ones,
            if there are fewer).

    Raises:
        ValueError: fewer than `kept` weights are left, or the layers' minima exceed `kept`.
    """
    flat = {name: s.masked_fill(~masks[name], -torch.inf).flatten() for name, s in scores.items()}
    alive = {name: int(mask.sum()) for name, mask in masks.items()}
    if kept > count_kept(masks):
        raise ValueError(f"cannot keep {kept:,} weights: only {count_kept(masks):,} are left")
    floors = layer_floors(masks, kept, min_layer_keep)
    if scope == "layer":
        floors = layer_counts(alive, kept, floors)
    chosen = {name: best(s, floors[name]) for name, s in flat.items()}
    pool = torch.cat([s.masked_fill(chosen[name], -torch.inf) for name, s in flat.items()])
    rest = best(pool, kept - sum(floors.values()))
    extras = torch.split(rest, [s.numel() for s in flat.values()])
    return {
        name: (chosen[name] | extra).view_as(masks[name])
        for name, extra in zip(flat, extras, strict=True)
    }


def layer_floors(masks: Masks, kept: int, share: float) -> dict[str, int]:
    """Weights that each layer keeps for any scores: `share` of it, or all unpruned ones.

    Raises:
        ValueError: together they exceed `kept`.
    """
    floors = {
        name: min(math.ceil(share * mask.numel()), int(mask.sum())) for name, mask in masks.items()
    }
    if sum(floors.values()) > kept:
        raise ValueError(
            f"method.mask.min_layer_keep={share} keeps {sum(floors.values()):,} weights,"
            f" but the density only {kept:,}: lower it or raise the density"
        )
    return floors


def best(scores: Tensor, n: int) -> Tensor:
    """True at the n largest of `scores` (m,); ties go to the lower index."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    if n:
        chosen[scores.argsort(descending=True, stable=True)[:n]] = True
    return chosen


def layer_counts(alive: dict[str, int], kept: int, floors: dict[str, int]) -> dict[str, int]:
    """Number of weights to keep in each layer at one density.

    Where rounding falls below a floor, the layer with the largest surplus over its own floor gives
    up weights.
    """
    counts = proportional(alive, kept)
    for name, floor in floors.items():
        while counts[name] < floor:
            donor = max(counts, key=lambda n: counts[n] - floors[n])
            counts[donor] -= 1
            counts[name] += 1
    return counts


def proportional(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Divide `total` in proportion to `sizes`, by largest remainders.

    Equal remainders are resolved in favour of the earlier layer.
    """
    everything = sum(sizes.values())
    shares = {name: divmod(total * n, everything) for name, n in sizes.items()}
    counts = {name: whole for name, (whole, _) in shares.items()}
    for name in sorted(shares, key=lambda n: -shares[n][1])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
