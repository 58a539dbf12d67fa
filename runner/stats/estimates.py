"""Estimates with their uncertainty: linear contrasts of the points of an experiment.

A contrast is a weighted sum of points, such as a difference or the slope of a line. Two kinds of
experiments give contrasts with a standard error: points that were measured with several seeds
(`BySeed`), and points that are means over independent trials of one run (`ByTrial`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr, stdtrit

Array = NDArray[np.float64]

SIDE = 0.025  # level of each side of a 95 % interval
EQUAL = 1e-9  # a spread below this share of the values is none


@dataclass(frozen=True)
class Estimates:
    """Estimates of several numbers; all arrays have the shape (m,).

    Args:
        value: the estimates.
        error: their standard errors; NaN or 0 if nothing is known about the spread.
        freedom: degrees of freedom of the standard errors.
    """

    value: Array
    error: Array
    freedom: Array

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether there is an estimate of the spread, shape (m,)."""
        return (self.error > 0) & (self.freedom > 0)

    def below(self, bound: float) -> Array:
        """One-sided p-values of Student's t for "the number is below `bound`", shape (m,).

        1 if nothing is known about the spread.
        """
        return self._one_sided(self.value - bound)

    def above(self, bound: float) -> Array:
        """One-sided p-values for "the number is above `bound`", shape (m,)."""
        return self._one_sided(bound - self.value)

    def lower(self, level: float = SIDE) -> Array:
        """One-sided lower confidence limits; they fail with probability `level`. Shape (m,)."""
        return self.value - self._half(level)

    def upper(self, level: float = SIDE) -> Array:
        """One-sided upper confidence limits; they fail with probability `level`. Shape (m,)."""
        return self.value + self._half(level)

    def _one_sided(self, distance: Array) -> Array:
        error, freedom = self._safe
        return np.where(self.known, stdtr(freedom, distance / error), 1.0)

    def _half(self, level: float) -> Array:
        error, freedom = self._safe
        return np.where(self.known, -stdtrit(freedom, level) * error, np.inf)

    @property
    def _safe(self) -> tuple[Array, Array]:
        return np.where(self.known, self.error, 1.0), np.where(self.known, self.freedom, 1.0)


class Points(Protocol):
    """The measured points of an experiment."""

    @property
    def means(self) -> Array: ...  # shape (k,)
    def contrasts(self, weights: Array) -> Estimates: ...  # of weights (m, k)
    def misfit(self, design: Array, towards: Array) -> float: ...
    def logarithms(self) -> "Points | None": ...  # None unless all numbers are positive


@dataclass(frozen=True)
class BySeed:
    """Points measured with the same seeds; a seed gives one number for each contrast.

    Nothing is assumed about the correlation of the points of a seed.

    Args:
        values: shape (n, k): n seeds, k points.
        floor: variances of the rounding of the points, shape (k,). Numbers that are counted, such
            as accuracies, can agree by chance; the variance of a contrast is at least that of its
            rounding.
    """

    values: Array
    floor: Array

    @cached_property
    def means(self) -> Array:
        """Means over the seeds, shape (k,)."""
        return np.asarray(self.values.mean(axis=0))

    def contrasts(self, weights: Array) -> Estimates:
        """Estimate contrasts by Student's t over seeds; `weights` has the shape (m, k)."""
        found = self.values @ weights.T
        n = len(found)
        value = found.mean(axis=0) if n else np.full(len(weights), np.nan)
        if n < 2:
            unknown = np.full(len(weights), np.nan)
            return Estimates(value, unknown, np.zeros(len(weights)))
        spread = found.std(axis=0, ddof=1)
        spread = np.where(spread > EQUAL * np.abs(found).max(axis=0), spread, 0.0)
        error = np.sqrt(np.maximum(spread**2, weights**2 @ self.floor) / n)
        return Estimates(value, error, np.full(len(weights), n - 1.0))

    def misfit(self, design: Array, towards: Array) -> float:
        """p-value of the lack of fit of `design` (k, q) in the direction of `towards` (k,).

        The direction is made orthogonal to the design; its component is zero if the design fits.
        There are too few seeds for a test in all directions.
        """
        rest = towards - design @ np.linalg.lstsq(design, towards, rcond=None)[0]
        found = self.contrasts(rest[None])
        return float(min(1.0, 2 * min(found.below(0)[0], found.above(0)[0])))

    def logarithms(self) -> "BySeed | None":
        """The logarithms of the points; None unless all are positive."""
        if not (self.values > 0).all():
            return None
        return BySeed(np.log(self.values), self.floor / np.maximum(self.means, 1e-300) ** 2)


@dataclass(frozen=True)
class ByTrial:
    """Points that are means over independent trials; all arrays have the shape (k,).

    Points are taken as independent. Trials with common random numbers at all points correlate
    positively, so that differences and slopes are more certain than stated.
    """

    means: Array
    deviations: Array
    trials: Array

    def contrasts(self, weights: Array) -> Estimates:
        """Estimate contrasts by Welch's t; degrees of freedom by Satterthwaite."""
        variances = weights**2 * (self.deviations**2 / self.trials)
        total = variances.sum(axis=1)
        shares = (variances**2 / np.maximum(self.trials - 1, 1)).sum(axis=1)
        freedom = np.divide(total**2, shares, out=np.zeros_like(total), where=shares > 0)
        return Estimates(weights @ self.means, np.sqrt(total), freedom)

    def misfit(self, design: Array, towards: Array) -> float:
        """p-value of the lack of fit of `design` (k, q) in all directions.

        The test of Welch and James with the approximation of Johansen (Biometrika 67, 1980,
        85-92), which allows different variances. `towards` is not used.
        """
        others = np.linalg.svd(design.T)[2][design.shape[1] :]  # rows orthogonal to the design
        covariance = np.diag(self.deviations**2 / self.trials)
        inner = others @ covariance @ others.T
        if np.linalg.matrix_rank(inner) < len(inner):
            return 1.0
        rest = others @ self.means
        statistic = float(rest @ np.linalg.solve(inner, rest))
        shares = np.diag(covariance @ others.T @ np.linalg.solve(inner, others))
        a, rank = float((shares**2 / (self.trials - 1)).sum()), len(others)
        scale = rank + 2 * a - 6 * a / (rank + 2)
        return float(fdtrc(rank, rank * (rank + 2) / (3 * a), statistic / scale))

    def logarithms(self) -> "ByTrial | None":
        """The logarithms of the points, deviations by the delta method; None unless positive."""
        if not (self.means > 0).all():
            return None
        return ByTrial(np.log(self.means), self.deviations / self.means, self.trials)
