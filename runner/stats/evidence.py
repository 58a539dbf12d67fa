"""Evidence for and against a claim, and its adjustment for the claims of a page.

A claim is a statement about a number, such as "the smallest gap is above zero". `support` is a
p-value under the assumption that the claim is false, `against` one under the assumption that it is
true. Each is valid for any spread; both have level 2.5 %, so that the limiting case, in which
either verdict would be an error, gives a verdict in at most 5 %. Confidence limits come from the
same tests: a claim that a number is above zero has support below 2.5 % exactly if the interval is
above zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from runner.stats.estimates import SIDE, Array, Estimates

LEVEL = 2 * SIDE


@dataclass(frozen=True)
class Evidence:
    """Evidence about a claim.

    Args:
        support: p-value if the claim is false.
        against: p-value if the claim is true.
        low, high: 95 % confidence interval of the number that the claim is about.
    """

    support: float
    against: float
    low: float = -np.inf
    high: float = np.inf

    @property
    def p(self) -> float:
        """The p-value of the better supported of the two verdicts."""
        return min(1.0, 2 * min(self.support, self.against))

    @property
    def holds(self) -> bool:
        """Whether the claim is better supported than its opposite."""
        return self.support < self.against


def above(found: Estimates, bound: float = 0.0) -> Evidence:
    """The claim that one number is above `bound`; `found` has the shape (1,)."""
    return smallest(found, bound)


def smallest(gaps: Estimates, bound: float = 0.0) -> Evidence:
    """The claim that all gaps (k,) are above `bound`; the number is the smallest gap.

    Support is an intersection-union test, the opposite is corrected for k by Bonferroni.
    """
    k = len(gaps.value)
    return Evidence(
        float(gaps.above(bound).max()),
        min(1.0, k * float(gaps.below(bound).min())),
        float(gaps.lower().min()),
        float(gaps.upper(SIDE / k).min()),
    )


def steady(differences: Estimates, within: float) -> Evidence:
    """The claim that all differences (k,) are below `within`; the number is the largest one.

    Differences are those of all ordered pairs of points.
    """
    k = len(differences.value)
    return Evidence(
        float(differences.below(within).max()),
        min(1.0, k * float(differences.above(within).min())),
        max(0.0, float(differences.lower(SIDE / k).max())),
        float(differences.upper().max()),
    )


def highest_inside(gaps: Estimates, inside: int, outside: int) -> Evidence:
    """The claim that the highest point inside a range is above the highest one outside.

    For each point outside there is a point inside above it. The number is the difference of the
    two maxima.

    Args:
        gaps: point inside minus point outside, shape (inside * outside,).
    """

    def grid(values: Array) -> Array:
        return values.reshape(inside, outside)

    higher, lower = grid(gaps.above(0.0)), grid(gaps.below(0.0))
    return Evidence(
        min(1.0, inside * float(higher.min(axis=0).max())),
        min(1.0, outside * float(lower.min(axis=1).max())),
        float(grid(gaps.lower(SIDE / inside)).max(axis=0).min()),
        float(grid(gaps.upper(SIDE / outside)).min(axis=1).max()),
    )


def between(slope: Estimates, least: float, most: float) -> Evidence:
    """The claim that a number is in the range (least, most); `slope` has the shape (1,)."""
    ends = np.isfinite([least, most]).sum()
    outside = min(slope.below(least)[0], slope.above(most)[0])
    return Evidence(
        float(max(slope.above(least)[0], slope.below(most)[0])),
        min(1.0, max(1, int(ends)) * float(outside)),
        float(slope.lower()[0]),
        float(slope.upper()[0]),
    )


def straight(slope: Evidence, line: float, rivals: Sequence[float]) -> Evidence:
    """The claim that points are on a line with such a slope, and not on one of the rival curves.

    It has support if the line fits and every rival is rejected.

    Args:
        line: p-value of the line's lack of fit.
        rivals: p-values of the lack of fit of the other curves.
    """
    fits = line >= LEVEL
    return replace(
        slope,
        support=max([slope.support, *rivals]) if fits else 1.0,
        against=min(1.0, 2 * min(slope.against, line)),
    )


def ratio(measured: float, low: float, high: float, equal: bool, margin: float) -> Evidence:
    """The claim that a ratio is 1 (`equal`) or at most 1, up to `margin`, by the normal law.

    Args:
        low, high: 95 % confidence interval of `measured`, symmetric around it.
    """
    error = (high - low) / 2 / -ndtri(SIDE)
    if not error > 0:
        return Evidence(1.0, 1.0, low, high)
    over, under = ndtr((1 - measured) / error), ndtr((measured - 1) / error)
    small = ndtr((measured - 1 - margin) / error)
    large = ndtr((1 - margin - measured) / error) if equal else 0.0
    against = 2 * min(over, under) if equal else over
    return Evidence(
        float(max(small, large)) if against >= LEVEL else 1.0, float(min(1.0, against)), low, high
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method, for any dependence.

    An adjusted value is below a level exactly if Holm's procedure rejects at that level (Holm,
    Scandinavian Journal of Statistics 6, 1979, 65-70).
    """
    order = np.argsort(ps, kind="stable")
    factors = np.arange(len(ps), 0, -1)
    steps = np.maximum.accumulate(factors * np.asarray(ps, dtype=float)[order])
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, steps)
    return [float(p) for p in adjusted]
