"""The boundary of a phase diagram: where the probability of success is one half, by logistic fits.

The log odds of a success are linear in y, with one slope for the whole diagram. `columns` gives
each x a boundary of its own; `judged` compares this with boundaries that are lines or other powers
of x. Columns without a crossing inside the grid (censored columns) take part in every fit. All
intervals and p-values come from the likelihood ratio. If cells scatter more than trials do, it is
divided by the dispersion, the residual deviance over its degrees of freedom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, fdtrc, stdtr, stdtrit, xlog1py, xlogy

from runner.stats.estimates import SIDE, Array
from runner.stats.evidence import Evidence, straight

FLAT = 30.0  # log odds beyond which a fitted share is 0 or 1
STEPS = 60  # of Newton's method; the deviance is then exact to TOLERANCE
TOLERANCE = 1e-9
FAR = 100.0  # ranges of the grid; a limit beyond is infinite


@dataclass(frozen=True)
class Centre:
    """The boundary of a column: the y of one half with its 95 % interval, which can be infinite.

    Args:
        inside: whether the boundary is inside the column's cells; otherwise it is censored.
    """

    x: float
    y: float
    low: float
    high: float
    inside: bool


@dataclass(frozen=True)
class Cells:
    """Cells of a phase diagram; all arrays have the shape (n,).

    Args:
        shares: share of successes among the trials of a cell.
    """

    x: Array
    y: Array
    shares: Array
    trials: Array

    @cached_property
    def column(self) -> Array:
        """One-hot columns of x, shape (n, columns)."""
        return np.asarray(self.x[:, None] == self.xs, dtype=float)

    @cached_property
    def xs(self) -> Array:
        """The different x, ascending."""
        return np.asarray(np.unique(self.x))

    @cached_property
    def free(self) -> tuple[float, Array]:
        """Deviance and coefficients of the fit with a boundary for each column, then of y."""
        return self.fit(np.column_stack([self.column, self.y]))

    @property
    def freedom(self) -> int:
        """Degrees of freedom that the free fit leaves; at least 1."""
        return max(1, len(self.x) - len(self.xs) - 1)

    @property
    def dispersion(self) -> float:
        """How much more than trials the cells scatter around the free fit; at least 1."""
        return max(1.0, self.free[0] / self.freedom)

    def fit(self, design: Array) -> tuple[float, Array]:
        """Deviance and coefficients of a logistic regression by maximum likelihood.

        If a separation makes coefficients infinite, the deviance is that of the limit.
        """
        scale = np.abs(design).max(axis=0)
        scaled = design / np.where(scale > 0, scale, 1.0)
        found, best = np.zeros(design.shape[1]), self._deviance(scaled, np.zeros(design.shape[1]))
        for _ in range(STEPS):
            share = expit(np.clip(scaled @ found, -FLAT, FLAT))
            weight = self.trials * share * (1 - share)
            inner = scaled.T @ (weight[:, None] * scaled)
            inner[np.diag_indices_from(inner)] += 1e-9 * (1 + inner.diagonal().max())
            step = np.linalg.solve(inner, scaled.T @ (self.trials * (self.shares - share)))
            size = 1.0
            while (new := self._deviance(scaled, found + size * step)) > best and size > 1e-6:
                size /= 2
            gain, best, found = best - new, min(new, best), found + size * step
            if abs(gain) < TOLERANCE:
                break
        return best, found / np.where(scale > 0, scale, 1.0)

    def _deviance(self, design: Array, coefficients: Array) -> float:
        share = expit(np.clip(design @ coefficients, -FLAT, FLAT))
        ours = xlogy(self.shares, share) + xlog1py(1 - self.shares, -share)
        own = xlogy(self.shares, self.shares) + xlog1py(1 - self.shares, -self.shares)
        return float(2 * (self.trials * (own - ours)).sum())

    def line(self, power: float = 1.0) -> tuple[float, float, float]:
        """Intercept and slope of the boundary intercept + slope x^power, and the deviance."""
        deviance, (constant, x, y) = self.fit(
            np.column_stack([np.ones_like(self.x), self.x**power, self.y])
        )
        return -constant / y, -x / y, deviance


def columns(cells: Cells) -> list[Centre]:
    """The boundary of every column with its interval, columns without a crossing included."""
    deviance, coefficients = cells.free
    span = float(np.ptp(cells.y))
    found = []
    for i, x in enumerate(cells.xs):
        there = cells.x == x
        others = np.delete(cells.column, i, axis=1)

        def at(y: float, there: Array = there, others: Array = others) -> float:
            """Deviance if the boundary of this column is at y."""
            return cells.fit(np.column_stack([others, np.where(there, cells.y - y, cells.y)]))[0]

        bottom, top = cells.y[there].min(), cells.y[there].max()
        centre = float(-coefficients[i] / coefficients[-1])
        inside = bool(bottom <= centre <= top)
        start = float(np.clip(centre, bottom - span, top + span))
        low, high = _limits(at, start, span, deviance, cells)
        if low == high:  # the start is rejected, and the boundary is beyond it
            low, high = (start, np.inf) if centre > start else (-np.inf, start)
        found.append(Centre(float(x), _rounded(centre), _rounded(low), _rounded(high), inside))
    return found


def _rounded(value: float) -> float:
    """To nine digits: the last ones of matrix products depend on the kind of processor."""
    return float(f"{value:.9g}")


def judged(
    cells: Cells, least: float, most: float, powers: Sequence[float]
) -> tuple[float, Evidence]:
    """The slope of the boundary, and evidence that it is a line with a slope in (least, most).

    Args:
        powers: rival powers of x; without any, only the slope is judged.
    """
    _, slope, deviance = cells.line()

    def at(value: float) -> float:
        """Deviance of a line with this slope."""
        shifted = cells.y - value * cells.x
        return cells.fit(np.column_stack([np.ones_like(cells.x), shifted]))[0]

    def below(bound: float) -> float:
        """p-value of "the slope is below `bound`", by the signed root of the likelihood ratio."""
        if not np.isfinite(bound):
            return 0.0 if bound > 0 else 1.0
        ratio = max(0.0, at(bound) - deviance) / cells.dispersion
        return float(stdtr(cells.freedom, np.sign(slope - bound) * ratio**0.5))

    scale = float(np.ptp(cells.y) / np.ptp(cells.x))
    low, high = _limits(at, slope, scale, deviance, cells)
    ends = max(1, int(np.isfinite([least, most]).sum()))
    under, over = below(least), 1 - below(most)
    evidence = Evidence(max(1 - under, 1 - over), min(1.0, ends * min(under, over)), low, high)
    if not powers:
        return slope, evidence
    return slope, straight(evidence, misfit(cells), [misfit(cells, power) for power in powers])


def misfit(cells: Cells, power: float = 1.0) -> float:
    """p-value of the lack of fit of a boundary intercept + slope x^power."""
    free = len(cells.xs) - 2
    if free < 1:
        return 1.0
    ratio = max(0.0, cells.line(power)[2] - cells.free[0]) / free / cells.dispersion
    return float(fdtrc(free, cells.freedom, ratio))


def _limits(
    at: Callable[[float], float], start: float, scale: float, deviance: float, cells: Cells
) -> tuple[float, float]:
    """The 95 % interval around `start` where the likelihood ratio is below its quantile."""
    limit = stdtrit(cells.freedom, 1 - SIDE) ** 2 * cells.dispersion

    def excess(value: float) -> float:
        return at(value) - deviance - float(limit)

    def end(sign: float) -> float:
        inner, step = start, scale / 50
        while excess(outer := inner + sign * step) < 0:
            inner, step = outer, 2 * step
            if abs(inner - start) > FAR * scale:
                return sign * np.inf
        return float(brentq(excess, inner, outer, xtol=1e-6 * scale))

    if excess(start) >= 0:  # the start was clipped: a censored column
        return start, start
    return end(-1.0), end(1.0)
