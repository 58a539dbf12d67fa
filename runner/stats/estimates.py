"""Estimates with their uncertainty: linear contrasts of the points of an experiment.

A contrast is a weighted sum of points, such as a difference or the slope of a line. Two kinds of
experiments give contrasts with a standard error: points that were measured with several seeds
(`BySeed` in seeds.py), and points that are means over independent trials of one run (`ByTrial`).
"""

from dataclasses import dataclass
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
    @property
    def size(self) -> int: ...  # of the sample: number of seeds, or of trials at least
    def contrasts(self, weights: Array) -> Estimates: ...  # of weights (m, k)
    def misfit(self, design: Array, towards: Array) -> float: ...
    def logarithms(self) -> "Points | None": ...  # None unless all numbers are positive


@dataclass(frozen=True)
class ByTrial:
    """Points that are means over independent trials; all arrays have the shape (k,).

    Points are taken as independent. Trials with common random numbers at all points correlate
    positively, so that differences and slopes are more certain than stated.
    """

    means: Array
    deviations: Array
    trials: Array

    @property
    def size(self) -> int:
        """The smallest number of trials."""
        return int(self.trials.min())

    def contrasts(self, weights: Array) -> Estimates:
        """Estimate contrasts by Welch's t; degrees of freedom by Satterthwaite."""
        variances = (weights**2 * (self.deviations**2 / self.trials)).T
        freedom = satterthwaite(variances, (self.trials - 1)[:, None])
        return Estimates(weights @ self.means, np.sqrt(variances.sum(axis=0)), freedom)

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


def satterthwaite(variances: Array, freedom: Array) -> Array:
    """Degrees of freedom of sums of independent estimates; all arrays (parts, m), result (m,)."""
    total = variances.sum(axis=0)
    shares = (variances**2 / np.maximum(freedom, 1)).sum(axis=0)
    found = np.divide(total**2, shares, out=np.zeros_like(total), where=shares > 0)
    return np.asarray(found)
