"""Overlap of a mask with that of endless sampling, from masks of halves and quarters of the sample.

For scores that are means of terms >= 0, such as squared gradients. A few images carry most of such
a mean, so its error is largest where the estimate is large, and a spread between parts is small
where those images are missing. Overlaps of masks of disjoint parts need no spread.

Model: the scores of two samples, as ranks, are bivariate normal with the correlation rho, which the
overlap of their masks gives. With noise and signal of variances nu and 1, two samples of equal size
have rho = 1 / (1 + nu), and a sample and the exact scores have 1 / sqrt(1 + nu) (Spearman, British
Journal of Psychology 1910; Brown, ibid.: the reliability of a test from that of its halves). nu
of all images is nu of a half times a rate: 1/2 for a mean with finite variance; here, what halves
have of nu of quarters (Bertail, Politis & Romano, JASA 1999, estimate a rate of convergence so).

This needs noise that is about as large for all weights in proportion to their scores. It overstates
the overlap of signed scores that are mostly noise, because the largest noise repeats
(docs/mask_overlap.md); pruners/selection/posterior.py is for those.
"""

import math
from itertools import combinations
from statistics import fmean, stdev

import torch

from pruners.analysis.overlap import compare, together
from pruners.base import CHANGE, CONVERGED, STANDARD_ERROR, Finding, Masks, density
from pruners.curvature.leverage import OVERLAP

TOLERANCE = 0.03  # of an overlap: what the estimated rate may change
NODES = 2000  # of the integral over kept scores
HALVES = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))  # of four quarters


def overlap_of_masks(chosen: Masks, other: Masks) -> float:
    """Share of the weights of `chosen` that `other` keeps, too."""
    return together([compare(mask, other[name]) for name, mask in chosen.items()]).kept


def from_split_halves(
    quarters: list[Masks], halves: list[tuple[Masks, Masks]]
) -> dict[str, Finding]:
    """`mask_overlap` with its errors.

    Args:
        quarters: masks of disjoint quarters of the sample.
        halves: masks of its two halves, for each way to split it.

    Returns:
        The overlap; the standard deviation between the splits; as its change, how much more it
        would be with the rate 1/2; and whether that is within the tolerance.
    """
    kept = density(quarters[0])
    pairs = list(combinations(quarters, 2))
    of_quarters = noise(fmean(overlap_of_masks(a, b) for a, b in pairs), kept)
    splits = [overlap_of_masks(a, b) for a, b in halves]

    def stated(of_halves: float, rate: float | None = None) -> float:
        found = noise(of_halves, kept)
        if rate is None:
            known = 0 < of_quarters < math.inf
            rate = min(max(found / of_quarters, 0.5), 1.0) if known else 0.5
        return overlap_at((1 + rate * found) ** -0.5, kept)

    overlap, plain = stated(fmean(splits)), stated(fmean(splits), 0.5)
    return {
        OVERLAP: overlap,
        OVERLAP + STANDARD_ERROR: stdev(map(stated, splits)),
        OVERLAP + CHANGE: plain - overlap,
        OVERLAP + CONVERGED: int(plain - overlap <= TOLERANCE),
    }


def noise(overlap: float, kept: float) -> float:
    """nu of two samples whose masks overlap so; infinite for an overlap of chance or less."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap_at(middle, kept) < overlap else (low, middle)
    return 1 / low - 1 if low > 1e-9 else math.inf


def overlap_at(rho: float, kept: float) -> float:
    """Overlap of the largest `kept` of two standard normal scores of correlation rho, in [0, 1]."""
    if rho >= 1 or kept >= 1:
        return 1.0
    above = torch.arange(0.5, NODES, dtype=torch.float64) / NODES * kept
    scores = -torch.special.ndtri(above)  # equally likely values of the kept scores of one sample
    bound = -torch.special.ndtri(torch.tensor(kept, dtype=torch.float64))
    return float(torch.special.ndtr((rho * scores - bound) / math.sqrt(1 - rho**2)).mean())
