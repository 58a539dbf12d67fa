"""What an estimator of the Hessian's spectrum gets and gives; pruners/curvature/estimators.py."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pruners.curvature.cuts import hard_step, ranking, smoothed_step
from pruners.curvature.gap import Gap
from pruners.curvature.lanczos import Krylov, MatVec, krylov, signs
from pruners.curvature.options import SpectrumOptions


@dataclass(frozen=True)
class Step:
    """The function f of H whose diagonal is the leverage: the smoothed step or a hard cut.

    Args:
        subspace, gap, density: as in pruners/curvature/spectrum.py.
        lipschitz: K, for rules of `gap` that need it.
    """

    subspace: str
    gap: Gap
    density: float | None
    lipschitz: float

    @property
    def hard(self) -> bool:
        """Whether f is a cut of d - k dimensions."""
        return self.subspace != "smoothed_curved"

    def smoothed(self, values: Tensor) -> Tensor:
        """f of the smoothed step at `values` (..., m)."""
        return smoothed_step(values, self.gap.sigma2)

    def __call__(
        self,
        values: Tensor,
        weights: Tensor,
        d: int,
        dead: Tensor | None = None,
        tie: float = 0.0,
    ) -> Tensor:
        """f at the Ritz values, (probes, m); a hard cut takes d - k dimensions.

        Args:
            dead: values that belong to dead coordinates, (m,); they rank last for `curved` and
                `abs`.
            tie: values of a hard cut that differ by no more than this count as equal.
        """
        if not self.hard:
            return self.smoothed(values)
        try:
            k, _ = self.gap.cut(values, weights, d, self.lipschitz, self.density)
        except ValueError as error:
            raise ValueError(
                f"{error}. The leverage of method.mask.subspace={self.subspace} depends on the cut,"
                " so another choice measures the spectrum again; with smoothed_curved it would not"
            ) from error
        keys = ranking(values, self.subspace)
        if dead is not None and self.subspace != "flat":
            keys = keys.masked_fill(dead, -torch.inf)
        return hard_step(keys, weights / len(weights), (d - k) / d, tie)


@dataclass(frozen=True)
class Problem:
    """What an estimator gets.

    Args:
        matvec: (d,) -> H times it.
        point: W*, (d,).
        rng: draws the probes.
        project: whether f(H)W* is requested.
    """

    matvec: MatVec
    point: Tensor
    rng: Generator
    options: SpectrumOptions
    step: Step
    project: bool

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.point)

    def projected(self, values: Tensor, f: Tensor) -> Tensor | None:
        """f(H) W*, shape (d,), by one more run; None if it is not requested.

        A hard cut is placed where f falls below half of its largest value.
        """
        if not self.project:
            return None
        run = krylov(self.matvec, self.point, self.options.steps, self.options.reorth)
        if not self.step.hard:
            return run.apply(self.step.smoothed(run.theta))
        cut = ranking(values, self.step.subspace)[f >= f.max() / 2].min()
        return run.apply((ranking(run.theta, self.step.subspace) >= cut).double())


@dataclass(frozen=True)
class Estimate:
    """Result of an estimator: values, weights (probes, m); vectors (d,) over the parameters.

    Args:
        variance: square of the standard error of the leverage; None where it is not known.
        known: the part of the leverage that has no error; None where all of it is sampled.
    """

    values: Tensor
    weights: Tensor
    leverage: Tensor
    dimension: float  # what the leverage should sum to
    diagonal: Tensor
    traces: Tensor  # (probes,)
    projected: Tensor | None = None
    variance: Tensor | None = None
    known: Tensor | None = None


def probe_runs(problem: Problem, probes: int) -> Iterator[tuple[Tensor, Krylov, Tensor]]:
    """Yield sign vectors z (d,), the Lanczos run from each, and H z, which is its first product."""
    for _ in range(probes):
        z = signs(problem.dimension, problem.rng, problem.point)
        yield z, *_with_product(problem.matvec, z, problem.options)


def _with_product(matvec: MatVec, z: Tensor, s: SpectrumOptions) -> tuple[Krylov, Tensor]:
    """A Lanczos run from z, and H z, which is the run's first product."""
    first: list[Tensor] = []

    def keeping(v: Tensor) -> Tensor:
        product = matvec(v)
        if not first:
            first.append(product)
        return product

    run = krylov(keeping, z, s.steps, s.reorth)
    return run, first[0] * run.norm
