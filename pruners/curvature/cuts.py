"""Numbers of directions to prune, from Ritz values: one function for each rule of `method.gap`.

IMC (NeurIPS 2021), section 3.3; pruners/curvature/gap.py describes the rules. Values and weights
have shape (probes, m); each row of weights sums to 1. All functions are pure functions of tensors.
"""

import torch
from torch import Tensor

from pruners.curvature.lanczos import leading, padded


def smoothing_width(values: Tensor, sigma2: float) -> Tensor:
    """Standard deviation (..., 1) of the Gaussians that smooth the values (..., m).

    The range is taken over the last axis.
    """
    spread = (values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)).clamp(min=1.0)
    return (sigma2 * spread).sqrt()


def smoothed_step(values: Tensor, sigma2: float) -> Tensor:
    """f(x) = Phi(x / sigma), the share of each value's Gaussian that is above zero: (..., m)."""
    shares: Tensor = torch.special.ndtr(values / smoothing_width(values, sigma2))
    return shares


def hard_step(keys: Tensor, weights: Tensor, share: float, tie: float = 0.0) -> Tensor:
    """f in [0, 1] that takes the largest keys until their weights sum to `share`.

    The values at the cut are taken in part. Tied values get equal parts, so that the result does
    not depend on the rotation of the eigenvectors of a degenerate space.

    Args:
        keys: ranking keys, any shape; -inf ranks last.
        weights: same shape, >= 0, summing to 1.
        tie: neighbours that differ by no more than this form one group.
    """
    key, order = keys.flatten().sort(descending=True, stable=True)
    weight = weights.flatten()[order]
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] < key[:-1] - tie
    group = new.cumsum(0) - 1
    mass = torch.zeros(int(group[-1]) + 1, dtype=weight.dtype).index_add_(0, group, weight)
    taken = ((share - (mass.cumsum(0) - mass)) / mass.clamp(min=1e-300)).clamp(0.0, 1.0)
    f = torch.empty_like(weight)
    f[order] = taken[group]
    return f.view_as(keys)


def ranking(values: Tensor, subspace: str) -> Tensor:
    """Keys for `hard_step` by subspace.

    `curved` ranks the steepest first, `flat` (the paper's W+) the most negative first, `abs` the
    largest magnitude first.
    """
    return {"curved": values, "flat": -values, "abs": values.abs()}[subspace]


def scan_k(values: Tensor, weights: Tensor, d: int, threshold: float) -> float | None:
    """The scan of step 5 for one probe: d times the weight above the first gap > `threshold`.

    The scan runs over the H-values from the smallest up. A = -H ascending reads the H-values
    downwards, so its top is the smallest H-value, and the k values below A's gap are the steep ones
    above H's. None if there is no such gap.
    """
    order = values.argsort(stable=True)
    theta, tau = values[order], weights[order]
    passing = (theta.diff() > threshold).nonzero()
    return None if len(passing) == 0 else d * float(tau[int(passing[0]) + 1 :].sum())


def literal_k(values: Tensor, weights: Tensor, d: int, lipschitz: float) -> int | None:
    """The paper's k: the first gap of -H from the top that is larger than 4K.

    The mean over the probes that have such a gap; None if none has.

    Args:
        values, weights: (probes, m) Ritz values of H and their weights; each row of weights sums to
            1.
    """
    return mean_k([scan_k(v, w, d, 4 * lipschitz) for v, w in zip(values, weights, strict=True)])


def literal_probes(values: Tensor, weights: Tensor, lipschitz: float) -> int:
    """Number of probes with a gap that passes the literal rule."""
    return sum(
        scan_k(v, w, 1, 4 * lipschitz) is not None for v, w in zip(values, weights, strict=True)
    )


def smoothed_k(values: Tensor, weights: Tensor, d: int, sigma2: float) -> int:
    """k = d * (1 - mean over probes of sum_j tau_j f(theta_j)), f = `smoothed_step`.

    This is a soft count of the flat and negative directions.
    """
    return round(d * (1.0 - float((weights * smoothed_step(values, sigma2)).sum(-1).mean())))


def resolution_k(values: Tensor, weights: Tensor, d: int) -> int | None:
    """k by the scan with a threshold of range / m in place of 4K.

    m Ritz values cannot resolve smaller distances, so closer values count as one.
    """
    m = values.shape[-1]
    pairs = zip(values, weights, strict=True)
    return mean_k([scan_k(v, w, d, float(v.max() - v.min()) / m) for v, w in pairs])


def largest_gap_k(values: Tensor, weights: Tensor, d: int) -> int | None:
    """Number of steep values above the widest gap; of equal gaps, the first from the top of -H."""
    found = []
    for v, w in zip(values, weights, strict=True):
        order = v.argsort(stable=True)
        gaps = v[order].diff()
        gap = len(gaps) and gaps.max() > 0
        found.append(d * float(w[order][int(gaps.argmax()) + 1 :].sum()) if gap else None)
    return mean_k(found)


def flat_k(values: Tensor, weights: Tensor, d: int, below: Tensor | float) -> int:
    """k = d * mean mass of the values at or below a threshold: the flat and negative side."""
    return round(d * float((weights * (values <= below)).sum(-1).mean()))


def mean_k(found: list[float | None]) -> int | None:
    passing = [k for k in found if k is not None]
    return round(sum(passing) / len(passing)) if passing else None


def ritz_sign_k(values: Tensor, weights: Tensor, d: int, steps: int) -> int:
    """k = d times the share of the Ritz values of a run of `steps` steps that are not positive.

    The mean over the probes, each of which is a run. The weights play no part. This is a count, not
    an estimate of the spectrum: it depends on `steps` and has no limit of interest. A run whose
    Krylov space is exhausted earlier has fewer Ritz values; the share is that of those it has.
    """
    shares = ritz_sign_shares(values, weights, steps)
    return round(d * sum(shares) / len(shares))


def ritz_sign_shares(values: Tensor, weights: Tensor, steps: int) -> list[float]:
    """Share of non-positive Ritz values after `steps` steps, for each probe."""
    theta, tau = shortened(values, weights, steps)
    return [float((v[w > 0] <= 0).double().mean()) for v, w in zip(theta, tau, strict=True)]


def shortened(values: Tensor, weights: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values and weights (probes, `steps`) after fewer steps; shorter runs are padded."""
    rows = [padded(*leading(v, w, steps), steps) for v, w in zip(values, weights, strict=True)]
    theta, tau = zip(*rows, strict=True)
    return torch.stack(theta), torch.stack(tau)
