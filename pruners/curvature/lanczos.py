"""Lanczos: approximate eigenvalues of a symmetric matrix from a few dozen products with it.

Used for the Hessian of IMC (pruners/curvature/spectrum.py). Textbook three-term recurrence (Golub
and Van Loan, section 10.1), with full reorthogonalisation done twice. Without it, converged
eigenvalues return as ghost copies, and counts and gaps are wrong (docs/methods/imc.md). All
functions are pure functions of tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

MatVec = Callable[[Tensor], Tensor]
CONVERGED = 1e-4  # residual / range up to which a Ritz value counts as an eigenvalue


def lanczos(
    matvec: MatVec, start: Tensor, steps: int, reorth: str = "full"
) -> tuple[Tensor, Tensor, Tensor]:
    """The tridiagonal matrix of H in the Krylov space of `start`, and a basis of that space.

    Returns:
        Diagonal alpha (m,) and off-diagonal beta (m,), float64 on the CPU, and the basis (m, d).
        beta[-1] couples to a step that is not taken: it is the residual. m < steps if the space is
        exhausted (`start` is an eigenvector, or H has few distinct eigenvalues).
    """
    steps = min(steps, start.numel())
    basis = start.new_empty(steps, start.numel())
    alpha, beta = torch.zeros(steps, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64)
    tiny, scale, j = 10 * torch.finfo(start.dtype).eps, 0.0, 0
    q = start / start.norm()
    for j in range(steps):
        basis[j] = q
        w = matvec(q)
        alpha[j] = torch.dot(w, q).item()
        w = w.sub(q, alpha=float(alpha[j]))
        if j:
            w.sub_(basis[j - 1], alpha=float(beta[j - 1]))
        for _ in range(2 if reorth == "full" else 0):  # twice is enough (Kahan, Parlett)
            w.sub_((basis[: j + 1] @ w) @ basis[: j + 1])
        beta[j] = w.norm().item()
        scale = max(scale, abs(float(alpha[j])), float(beta[j]))
        if beta[j] <= tiny * scale:
            beta[j] = 0.0
            break
        q = w / beta[j].item()
    return alpha[: j + 1], beta[: j + 1], basis[: j + 1]


@dataclass(frozen=True)
class Krylov:
    """One Lanczos run from a start vector, diagonalised.

    Args:
        theta: Ritz values (m,), ascending.
        tau: their weights (m,).
        vectors: eigenvectors (m, m) of the tridiagonal matrix.
        basis: of the Krylov space, (m, d).
    """

    theta: Tensor
    tau: Tensor
    vectors: Tensor
    basis: Tensor
    norm: float  # of the start vector
    residual: float

    def apply(self, f: Tensor) -> Tensor:
        """f(H) start, shape (d,); f holds the function's values at theta."""
        return self.lift(self.vectors @ (f * self.vectors[0])) * self.norm

    def padded(self, m: int) -> tuple[Tensor, Tensor]:
        """theta and tau padded to m entries."""
        return padded(self.theta, self.tau, m)

    @property
    def converged(self) -> Tensor:
        """Which Ritz values are eigenvalues to good accuracy, (m,) bool.

        The residual |H y - theta y| is `residual` * |last entry of the eigenvector|.
        """
        spread = self.theta[-1] - self.theta[0]
        return self.residual * self.vectors[-1].abs() <= CONVERGED * spread

    def lift(self, coefficients: Tensor) -> Tensor:
        """Map coefficients (..., m) in the basis to vectors (..., d)."""
        return coefficients.to(self.basis) @ self.basis


def krylov(matvec: MatVec, start: Tensor, steps: int, reorth: str = "full") -> Krylov:
    """Run Lanczos from `start` and diagonalise the result."""
    alpha, beta, basis = lanczos(matvec, start, steps, reorth)
    theta, vectors = torch.linalg.eigh(
        torch.diag(alpha) + torch.diag(beta[:-1], 1) + torch.diag(beta[:-1], -1)
    )
    return Krylov(theta, vectors[0] ** 2, vectors, basis, float(start.norm()), float(beta[-1]))


def padded(theta: Tensor, tau: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Ritz values and weights padded to m entries, which adds no mass and no gap.

    The padding, in front, consists of copies of the smallest value with weight 0.
    """
    missing = m - len(theta)
    return (
        torch.cat([theta[:1].repeat(missing), theta]),
        torch.cat([tau.new_zeros(missing), tau]),
    )


def leading(theta: Tensor, tau: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values and weights (k,) of the first `steps` steps of a run of m >= `steps` steps.

    The leading block of the run's tridiagonal matrix, which its m values and weights determine: it
    is the tridiagonal matrix of diag(theta) in the Krylov space of sqrt(tau) (Golub and Welsch,
    1969; Gragg and Harrod, 1984). No product with H is needed.

    Args:
        theta, tau: (m,) as in `Krylov`; entries of weight 0 are ignored, so rows may be padded.

    Returns:
        k = min(`steps`, number of values with a weight) values, ascending, and their weights.
    """
    nodes, weights = theta[tau > 0], tau[tau > 0]
    if len(nodes) <= steps:
        return nodes, weights
    run = krylov(lambda v: nodes.double() * v, weights.double().sqrt(), steps)
    return run.theta, run.tau


def signs(d: int, rng: Generator, like: Tensor) -> Tensor:
    """A Rademacher probe (d,), drawn on the CPU so that it is the same on every device."""
    return (torch.randint(0, 2, (d,), generator=rng) * 2 - 1).to(like)


def as_matrix(matvec: MatVec, like: Tensor) -> Tensor:
    """The operator as a symmetric matrix (d, d), built column by column.

    It has the dtype and the device of `like` (d,).
    """
    units = torch.eye(len(like), dtype=like.dtype, device=like.device)
    columns = torch.stack([matvec(unit) for unit in units])
    return (columns + columns.T) / 2


def exact_spectrum(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, and which belong to dead coordinates.

    Zero rows are separated before the decomposition, so that their eigenvectors are exactly the
    coordinates; they come last.

    Returns:
        Eigenvalues (d,), eigenvectors (d, d) in columns, dead (d,) bool; float64 on the CPU.
    """
    h = h.detach().double().cpu()
    alive = (h != 0).any(1)
    order = torch.cat([alive.nonzero().flatten(), (~alive).nonzero().flatten()])
    n = int(alive.sum())
    values, vectors = torch.zeros(len(h), dtype=h.dtype), torch.zeros_like(h)
    values[:n], live = torch.linalg.eigh(h[alive][:, alive])
    vectors[order[:n], :n] = live
    vectors[order[n:], torch.arange(n, len(h))] = 1.0
    return values, vectors, torch.arange(len(h)) >= n
