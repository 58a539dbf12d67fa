"""What scores would be without sampling error: a posterior from estimates and their variances.

Model of a layer: estimates x_i of scores t_i, with x_i given t_i ~ N(t_i, s_i^2). The ratios
r_i = t_i / s_i of all weights of the layer come from one distribution G, so that noise and signal
may have any scale. The variance s_i^2 is itself an estimate v_i from n parts, so that
u_i = sqrt(v_i) / s_i is the root of a chi-squared variable divided by its n - 1 degrees of freedom,
and z_i = x_i / sqrt(v_i) given r_i is noncentral t. G has no form: it is the maximum likelihood
estimate of Kiefer & Wolfowitz (Annals of Mathematical Statistics 1956) from all z_i, by expectation
maximisation on a grid (Jiang & Zhang, Annals of Statistics 2009). In the posterior of
t_i = sqrt(v_i) r_i / u_i there is no selection bias: the largest of noisy estimates are drawn back
to what such estimates have in common.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

SPACING = 0.05  # of the grid of asinh r: 0.05 near zero, 1 at r = 20, where the noise is 1, too
STEPS = 300  # of expectation maximisation; see docs/mask_overlap.md
NODES = 15  # values of u, equally likely
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Posterior:
    """Scores of a layer given their estimates: independent.

    Args:
        estimate: x (n,), float64.
        error: sqrt(v) (n,); where it is 0, the score is the estimate.
        order: the weights by increasing z (n,), so that neighbours read the same part of `rising`.
        bins: index of each z in the grid of m points, in that order (n,).
        support: values of r / u (k,).
        rising: the index of z plus the cumulative probability of `support` there, (m * k,).
    """

    estimate: Tensor
    error: Tensor
    order: Tensor
    bins: Tensor
    support: Tensor
    rising: Tensor

    @classmethod
    def of(cls, estimate: Tensor, variance: Tensor, parts: int) -> "Posterior":
        """The posterior of a layer.

        Args:
            estimate: x, any shape.
            variance: v, of the same shape, >= 0.
            parts: n, from which the variances were estimated.
        """
        x = estimate.detach().cpu().double().flatten()
        error = variance.cpu().double().sqrt().flatten()
        places = torch.where(error > 0, x / error.where(error > 0, 1.0), 0.0).asinh()
        low, high = float(places.min()), float(places.max())
        points = 3 + int((high - low) / SPACING)
        grid = (low + SPACING * torch.arange(-1, points - 1, dtype=torch.float64)).sinh()
        bins, order = (((places - low) / SPACING).round().long() + 1).sort(stable=True)
        counts = torch.bincount(bins[error[order] > 0], minlength=points)
        u = _roots(parts - 1)
        support = (grid[:, None] / u).flatten()
        rows = torch.arange(points, dtype=torch.float64)[:, None]
        rising = (_cumulative(grid, u, counts) + rows).flatten()
        return cls(x, error, order, bins, support, rising)

    def draw(self, rng: Generator) -> Tensor:
        """Scores from the posterior (n,), float64 on the CPU."""
        columns = len(self.support)
        chance = torch.rand(len(self.bins), generator=rng, dtype=torch.float64)
        found = torch.searchsorted(self.rising, self.bins + chance, right=True)
        found -= self.bins * columns
        ratio = torch.empty_like(chance)
        ratio[self.order] = self.support[found.clamp(0, columns - 1)]
        return torch.where(self.error > 0, self.error * ratio, self.estimate)


def _roots(freedom: int) -> Tensor:
    """Equally likely values (NODES,) of the root of chi-squared divided by its degrees of freedom.

    They are quantiles, by bisection of the regularised gamma function.
    """
    wanted = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    low, high = torch.zeros_like(wanted), torch.full_like(wanted, 10.0)
    shape = torch.full_like(wanted, freedom / 2)
    for _ in range(50):
        middle = (low + high) / 2
        below = torch.special.gammainc(shape, shape * middle**2) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _cumulative(grid: Tensor, u: Tensor, counts: Tensor) -> Tensor:
    """Probability (m, k) of the first values of `Posterior.support`, by the index of z.

    Args:
        grid: values of z and of r (m,).
        u: equally likely values of u.
        counts: number of estimates at each point of the grid (m,).
    """
    m = len(grid)
    share = counts.double() / counts.sum().clamp(min=1)
    # density of z (rows) given r and u
    likelihood = torch.exp(-((grid[:, None, None] * u - grid[:, None]) ** 2) / 2) * u
    by_r = likelihood.mean(2)
    prior = (share + 0.01 / m) / 1.01
    for _ in range(STEPS):
        prior = prior * (by_r.T @ (share / (by_r @ prior).clamp(min=TINY)))
        prior = prior / prior.sum().clamp(min=TINY)
    cumulative = (likelihood * prior[:, None]).flatten(1).cumsum(1)
    return cumulative / cumulative[:, -1:].clamp(min=TINY)
