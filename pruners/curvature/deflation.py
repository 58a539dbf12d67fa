"""Leverages from one long Lanczos run and a few short ones that leave its eigenvectors out.

What makes a sign vector's estimate z * f(H)z of the leverage noisy are the directions in which f
differs from 1/2, above all the outliers. One run of `steps` steps finds these: its converged Ritz
vectors v_j (residual: pruners/curvature/lanczos.py) are eigenvectors, whose part of the leverage is
exact. Random vectors only estimate the rest (Hutch++: Meyer, Musco, Musco and Woodruff, SOSA 2021;
for Lanczos quadrature: Chen and Hallman, SIAM J. Matrix Anal. Appl. 2023). With g = f - 1/2 and the
projector P = I - sum_j v_j v_j',

    l_i = 1/2 + sum_j g(theta_j) v_ji^2 + mean over probes of [z * g(H) P z]_i.

Without outliers the range of H is small, so `deflated_steps` of 10 suffice for all further probes.
The first probe is the start of the long run, whose Krylov space contains P z. f's width is that of
the long run's range. The constant 1/2 has no noise, since z * z = 1. Trace and diagonal of H are
split likewise. Ritz values and weights are those of the long run alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruners.curvature.certainty import squared_error
from pruners.curvature.cuts import smoothed_step
from pruners.curvature.lanczos import Krylov, krylov, signs
from pruners.curvature.problem import Estimate, Problem, probe_runs


@dataclass(frozen=True)
class _Sample:
    """One probe's estimate of the part of H without the eigenvectors.

    Args:
        leverage: z * g(H) P z, (d,).
        total: its sum, by quadrature.
        diagonal: z * H P z, (d,).
    """

    leverage: Tensor
    total: float
    diagonal: Tensor


def deflated(problem: Problem) -> Estimate:
    """One run of `steps` steps, then `probes` - 1 runs of `deflated_steps` without its outliers."""
    d, options = problem.dimension, problem.options
    ((z, run, product),) = probe_runs(problem, 1)
    sure = run.converged
    theta, g = run.theta[sure], problem.step.smoothed(run.theta) - 0.5
    vectors = run.lift(run.vectors[:, sure].T)  # (converged, d)
    samples = [_first(z, run, g * ~sure, product - _combine(vectors, theta, z))]
    spread = run.theta[[0, -1]]
    values, weights = run.theta[None], run.tau[None]
    projected = problem.projected(values, g + 0.5)
    del run
    for _ in range(options.probes - 1):
        z = signs(d, problem.rng, problem.point)
        samples.append(_further(problem, z, vectors, spread))
    n = len(samples)
    part = sum((s.leverage for s in samples), torch.zeros_like(problem.point)) / n
    squares = sum((s.leverage**2 for s in samples), torch.zeros_like(problem.point)) / n
    rest = sum((s.diagonal for s in samples), torch.zeros_like(problem.point)) / n
    squared = vectors**2
    known = 0.5 + g[sure].to(vectors) @ squared
    return Estimate(
        values,
        weights,
        known + part,
        d / 2 + float(g[sure].sum()) + sum(s.total for s in samples) / n,
        theta.to(vectors) @ squared + rest,
        torch.tensor([float(theta.sum()) + float(s.diagonal.double().sum()) for s in samples]),
        projected,
        squared_error(part, squares, n),
        known,
    )


def _combine(vectors: Tensor, values: Tensor | float, v: Tensor) -> Tensor:
    """V' diag(values) V v, for orthonormal rows V (k, d): shape (d,)."""
    inner = vectors @ v
    return (inner * torch.as_tensor(values).to(inner)) @ vectors


def _first(z: Tensor, run: Krylov, g: Tensor, product: Tensor) -> _Sample:
    """The sample of the long run's start z.

    Args:
        g: (m,), zero at converged Ritz values.
        product: H P z.
    """
    return _Sample(z * run.apply(g), run.norm**2 * float(run.tau @ g), z * product)


def _further(problem: Problem, z: Tensor, vectors: Tensor, spread: Tensor) -> _Sample:
    """The sample of another sign vector, by a run that starts and stays outside of `vectors`.

    Args:
        spread: smallest and largest Ritz value of the long run, which determine f's width.
    """

    def without(v: Tensor) -> Tensor:
        return v - _combine(vectors, 1.0, v)

    products: list[Tensor] = []

    def matvec(v: Tensor) -> Tensor:
        products.append(without(problem.matvec(v)))
        return products[-1]

    start = without(without(z))  # twice, as in `lanczos`
    if float(start.norm()) <= torch.finfo(start.dtype).eps * len(start):
        return _Sample(torch.zeros_like(z), 0.0, torch.zeros_like(z))  # nothing is left
    steps = problem.options.deflated_steps
    assert steps is not None
    run = krylov(matvec, start, steps, problem.options.reorth)
    g = smoothed_step(torch.cat([run.theta, spread]), problem.step.gap.sigma2)[:-2] - 0.5
    return _Sample(z * run.apply(g), run.norm**2 * float(run.tau @ g), z * products[0] * run.norm)
