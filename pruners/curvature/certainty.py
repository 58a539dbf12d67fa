"""How certain a number is that was taken from Lanczos runs: standard error and convergence check.

A number taken from the Ritz values of a few random start vectors has two errors.

- Of sampling: the standard error of the mean over the probes, s / sqrt(R), with s the standard
  deviation (n - 1) of the number between probes. None for one probe.
- Of Lanczos: a run of m steps contains those of fewer steps (the leading blocks of its tridiagonal
  matrix), so the number is computed again with half and with three quarters of the steps, without a
  product. `change` is the mean over the probes of the largest distance to the number with all
  steps. The distance is taken for each probe, since the errors of different probes may cancel in
  the mean; two parts are compared, since one may agree by chance.

The number is converged if `change` is at most `TOLERANCE`: of all directions for a share, of the
number itself for eigenvalues and counts. A run that has exhausted its Krylov space, or has a step
for each direction, is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pruners.base import CHANGE, CONVERGED, HALF, STANDARD_ERROR, Finding
from pruners.curvature.lanczos import leading

TOLERANCE = 0.01
WITH_RUNS = ("slq", "dense")  # values of method.spectrum.estimator that the check can read
# Values and weights (1, m) of one probe -> the number, or None if it does not exist.
Number = Callable[[Tensor, Tensor], float | None]
Rows = list[tuple[Tensor, Tensor]]  # values and weights (1, m) of each probe


@dataclass(frozen=True)
class Certainty:
    """Errors of a number.

    Args:
        error: standard error over the probes.
        half: mean over the probes with half of the steps.
        change: error of Lanczos, as above; infinite, in records null, if a gap exists with some
            steps only.
        converged: whether `change` is within the tolerance; None where there is no limit.
    """

    error: float | None
    half: float | None
    change: float
    converged: bool | None

    def findings(self, name: str) -> dict[str, Finding]:
        """Findings for the record, named after the number `name`."""
        return {
            name + STANDARD_ERROR: self.error,
            name + HALF: self.half,
            name + CHANGE: self.change if self.change != float("inf") else None,
            name + CONVERGED: None if self.converged is None else int(self.converged),
        }


@dataclass(frozen=True)
class Runs:
    """The runs of all probes with all, with half and with three quarters of their steps.

    Args:
        exact: for each probe, whether its values describe H's spectrum exactly.
    """

    PARTS: ClassVar[tuple[float, ...]] = (0.5, 0.75)
    whole: Rows
    parts: tuple[Rows, ...]
    exact: tuple[bool, ...]

    @classmethod
    def of(cls, values: Tensor, weights: Tensor, d: int) -> "Runs":
        """The runs with these Ritz values and weights (probes, m), in d dimensions.

        With m = d eigenvalues of equal weight it is a whole spectrum.
        """
        m = values.shape[-1]
        rows = [(v[None], w[None]) for v, w in zip(values, weights, strict=True)]
        exact = tuple(m >= d or int((w > 0).sum()) < m for w in weights)
        return cls(
            rows,
            tuple(
                [
                    row if sure else _shorter(*row, max(1, round(part * m)))
                    for row, sure in zip(rows, exact, strict=True)
                ]
                for part in cls.PARTS
            ),
            exact,
        )

    def certainty(self, number: Number, scale: float = 1.0, limit: bool = True) -> Certainty:
        """The errors of a number.

        Args:
            scale: of the tolerance; 1 for a share of the directions.
            limit: whether the number has a limit for many steps.
        """
        whole = [number(*row) for row in self.whole]
        parts = [[number(*row) for row in rows] for rows in self.parts]
        found = [value for value in whole if value is not None]
        changes = [
            max(_distance(value, part) for part in others)
            for value, *others in zip(whole, *parts, strict=True)
        ]
        change = sum(changes) / len(changes)
        return Certainty(
            standard_error(found),
            _mean([value for value in parts[0] if value is not None]),
            change,
            change <= TOLERANCE * abs(scale) if limit else None,
        )


def standard_error(found: list[float]) -> float | None:
    """Standard error of the mean of independent numbers; None for fewer than two."""
    if len(found) < 2:
        return None
    if min(found) == max(found):
        return 0.0  # not the rounding of their mean
    return float(torch.tensor(found, dtype=torch.float64).std() / len(found) ** 0.5)


def squared_error(mean: Tensor, squares: Tensor, n: int) -> Tensor | None:
    """Square of the standard error of a mean of n samples, by entry; None for one sample.

    Args:
        mean: of the samples, any shape.
        squares: mean of their squares, same shape.
    """
    return (squares - mean**2).clamp(min=0) / (n - 1) if n > 1 else None


def _mean(found: list[float]) -> float | None:
    return sum(found) / len(found) if found else None


def _shorter(values: Tensor, weights: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    theta, tau = leading(values[0], weights[0], steps)
    return theta[None], tau[None]


def _distance(a: float | None, b: float | None) -> float:
    """|a - b|; infinite if only one exists, 0 if none does."""
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    return abs(a - b)
