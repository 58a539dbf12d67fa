"""Estimators of the Hessian's spectrum and of the leverage of every weight.

IMC (NeurIPS 2021) names PyHessian and gives no details; PyHessian cannot give a spectrum of d
eigenvalues. Ours (docs/methods/imc.md) is stochastic Lanczos quadrature, `slq`
(pruners/curvature/lanczos.py). It takes a probe z of signs and `steps` steps with full
reorthogonalisation done twice. The results are Ritz values theta_j and weights tau_j with

    z'f(H)z / d = sum_j tau_j f(theta_j),

and f(H)z from the same basis. The leverage is l_i = [f(H)]_ii. For the smoothed step it is the mean
over probes of z * f(H)z, and its sum equals the d - k of `gap` up to rounding. For a hard cut it is
the mean of (sqrt(f)(H) z)^2, which is never negative and far less noisy for a small subspace. The
diagonal of H comes from the first product of each probe at no extra cost. Almost all time is spent
on the products H z: probes * steps.

Other estimators: `dense` (exact), `lanczos_extremes` (one run; converged Ritz values count as
single eigenvalues), `diag` (H approximated by its diagonal).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pruners.curvature.certainty import squared_error
from pruners.curvature.cuts import hard_step, ranking, smoothed_step
from pruners.curvature.gap import Gap
from pruners.curvature.lanczos import Krylov, MatVec, as_matrix, exact_spectrum, krylov, signs
from pruners.curvature.options import SpectrumOptions

DENSE_LIMIT = 5000  # parameters; a 5000 x 5000 float64 matrix and its eigenvectors take 400 MB


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
    """

    values: Tensor
    weights: Tensor
    leverage: Tensor
    dimension: float  # what the leverage should sum to
    diagonal: Tensor
    traces: Tensor  # (probes,)
    projected: Tensor | None = None
    variance: Tensor | None = None


def slq(problem: Problem) -> Estimate:
    """Stochastic Lanczos quadrature."""
    d, step, probes = problem.dimension, problem.step, problem.options.probes
    steps = min(problem.options.steps, d)
    runs: list[Krylov] = []
    rows, traces, dimensions = [], [], []
    leverage, diagonal = torch.zeros_like(problem.point), torch.zeros_like(problem.point)
    squares = torch.zeros_like(problem.point)  # mean over probes
    dead = torch.ones_like(problem.point, dtype=torch.bool)
    for z, run, product in _probes(problem, probes):
        diagonal += z * product / probes
        dead &= product == 0
        traces.append(float(torch.dot(z.double(), product.double())))
        rows.append(run.padded(steps))
        if step.hard:  # the cut needs all probes, so all bases are kept: probes * steps * d numbers
            runs.append(run)
        else:
            f = step.smoothed(run.theta)
            sample = z * run.apply(f)
            leverage += sample / probes
            squares += sample**2 / probes
            dimensions.append(d * float((run.tau * f).sum()))
    values, weights = (torch.stack(t) for t in zip(*rows, strict=True))
    f = step(values, weights, d)
    if step.hard:
        leverage = _projector_leverage(runs, f)
        if step.subspace != "flat":
            leverage[dead] = 0.0
        dimensions = [d * float((weights * f).sum(-1).mean())]
    return Estimate(
        values,
        weights,
        leverage,
        sum(dimensions) / len(dimensions),
        diagonal,
        torch.tensor(traces),
        problem.projected(values, f),
        None if step.hard else squared_error(leverage, squares, probes),
    )


def extremes(problem: Problem) -> Estimate:
    """One Lanczos run whose converged Ritz values count as single eigenvalues."""
    d = problem.dimension
    ((z, run, product),) = _probes(problem, 1)
    sure = run.converged
    if bool(sure.all()) and len(sure) < d:
        # The probe's space ends before d: some eigenvalue is multiple. That of the largest weight
        # takes the dimensions that are missing, as in the spectrum of a net with a flat bulk.
        sure[run.tau.argmax()] = False
    rest = run.tau * ~sure  # all zeros if every eigenvalue is simple and has converged
    share = (1 - int(sure.sum()) / d) / rest.sum().clamp(min=torch.finfo(rest.dtype).tiny)
    weights = torch.where(sure, 1.0 / d, rest * share)
    f = problem.step(run.theta[None], weights[None], d)[0]
    vectors = run.lift(run.vectors[:, sure].T)  # eigenvectors (converged, d): exact leverage
    leverage = f[sure].to(vectors) @ vectors**2
    # The probe without these eigenvectors estimates the rest.
    z_rest, f_rest = run.apply((~sure).double()), run.apply(f * ~sure)
    leverage += z_rest * f_rest * float(share)
    return Estimate(
        run.theta[None],
        weights[None],
        leverage,
        d * float(weights @ f),
        z * product,
        torch.tensor([float(torch.dot(z.double(), product.double()))]),
        problem.projected(run.theta, f),
    )


def dense(problem: Problem) -> Estimate:
    """All eigenvalues and eigenvectors of the matrix H.

    Raises:
        ValueError: there are more than DENSE_LIMIT parameters.
    """
    d = problem.dimension
    if d > DENSE_LIMIT:
        raise ValueError(
            f"method.spectrum.estimator=dense takes up to {DENSE_LIMIT:,} parameters, this net"
            f" has {d:,}: take method.spectrum.estimator=slq"
        )
    h = as_matrix(problem.matvec, problem.point)
    values, vectors, dead = exact_spectrum(h)
    # Eigenvalues whose distance is within rounding count as equal.
    tie = max(torch.finfo(h.dtype).eps, 1e-12) * float(values.abs().max())
    weights = torch.full((1, d), 1.0 / d, dtype=torch.float64)
    f = problem.step(values[None], weights, d, dead, tie)[0]
    projected = None
    if problem.project:
        projected = vectors @ (f * (vectors.T @ problem.point.double().cpu()))
    diagonal = h.diagonal().double().cpu()
    trace = diagonal.sum()[None]
    leverage = vectors**2 @ f
    exact, kept = torch.zeros_like(leverage), float(f.sum())
    return Estimate(values[None], weights, leverage, kept, diagonal, trace, projected, exact)


def diag(problem: Problem) -> Estimate:
    """The spectrum of H approximated by its diagonal, from products with sign vectors."""
    d, probes, products = problem.dimension, problem.options.probes, []
    dead = torch.ones_like(problem.point, dtype=torch.bool)
    for _ in range(probes):
        z = signs(d, problem.rng, problem.point)
        product = problem.matvec(z)
        dead &= product == 0
        products.append((z * product).double().cpu())
    diagonal = sum(products, torch.zeros(d, dtype=torch.float64)) / probes
    weights = torch.full((1, d), 1.0 / d, dtype=torch.float64)
    f = problem.step(diagonal[None], weights, d, dead.cpu())[0]
    projected = f * problem.point.double().cpu() if problem.project else None
    traces = torch.stack([p.sum() for p in products])
    values = diagonal.sort().values[None]
    return Estimate(values, weights, f, float(f.sum()), diagonal, traces, projected)


ESTIMATORS: Mapping[str, Callable[[Problem], Estimate]] = {
    "slq": slq,
    "dense": dense,
    "lanczos_extremes": extremes,
    "diag": diag,
}


def _probes(problem: Problem, probes: int) -> Iterator[tuple[Tensor, Krylov, Tensor]]:
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


def _projector_leverage(runs: list[Krylov], f: Tensor) -> Tensor:
    """Mean over probes of (sqrt(f)(H) z)^2, shape (d,).

    The value at the cut is taken in part. The sum is d times that of tau * f.
    """
    return sum(
        (run.apply(row[-len(run.theta) :].sqrt()) ** 2 for run, row in zip(runs, f, strict=True)),
        torch.zeros(()),
    ) / len(runs)
