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

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pruners.curvature.certainty import squared_error
from pruners.curvature.deflation import deflated
from pruners.curvature.lanczos import Krylov, as_matrix, exact_spectrum, signs
from pruners.curvature.problem import Estimate, Problem, probe_runs

DENSE_LIMIT = 5000  # parameters; a 5000 x 5000 float64 matrix and its eigenvectors take 400 MB


def slq(problem: Problem) -> Estimate:
    """Stochastic Lanczos quadrature, with short deflated runs if the options state their steps."""
    deflate = problem.options.deflated_steps is not None
    return deflated(problem) if deflate else _equal_runs(problem)


def _equal_runs(problem: Problem) -> Estimate:
    """One run of `steps` steps from each probe."""
    d, step, probes = problem.dimension, problem.step, problem.options.probes
    steps = min(problem.options.steps, d)
    runs: list[Krylov] = []
    rows, traces, dimensions = [], [], []
    leverage, diagonal = torch.zeros_like(problem.point), torch.zeros_like(problem.point)
    squares = torch.zeros_like(problem.point)  # mean over probes
    dead = torch.ones_like(problem.point, dtype=torch.bool)
    for z, run, product in probe_runs(problem, probes):
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
        del run  # its basis, before the next one is made
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
    ((z, run, product),) = probe_runs(problem, 1)
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


def _projector_leverage(runs: list[Krylov], f: Tensor) -> Tensor:
    """Mean over probes of (sqrt(f)(H) z)^2, shape (d,).

    The value at the cut is taken in part. The sum is d times that of tau * f.
    """
    return sum(
        (run.apply(row[-len(run.theta) :].sqrt()) ** 2 for run, row in zip(runs, f, strict=True)),
        torch.zeros(()),
    ) / len(runs)
