"""IMC's cut of the spectrum: the number k of directions (and weights) to prune, from Ritz values.

IMC (NeurIPS 2021), Theorem 5 and step 5 of section 3.3: A = -H, eigenvalues ascending, the first k
from the top with lambda_{k+1} - lambda_k > 4K; W- has dimension k, and the sparsity is k / d.
`literal_k` is this scan and is always reported.

Deviations (docs/methods/imc.md; docs/decisions.md 14): on every net that we measured the
printed rule finds no gap, or k = d - 1, or a handful of outliers. The sparsity therefore comes from
`rule`, by default `smoothed_sign`: one minus the mass on H > 0 of the spectral density that
PyHessian would plot, in which each Ritz value is a Gaussian of variance sigma2 * max(1, range).
This is not a gap; it is our reading. k is d times a mass, averaged over the probes, because a few
dozen Ritz values do not give d eigenvalues. With the dense estimator k is a count. `range` is that
of each probe's own Ritz values.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pruners.base import Task, keep_count
from pruners.curvature.options import not_among

RULES = (
    "smoothed_sign",
    "literal",
    "resolution_merged",
    "effective_rank",
    "sign",
    "largest_gap",
    "fixed",
)
SUBSPACES = ("smoothed_curved", "curved", "flat", "abs")
DEGENERATE = 0.01  # a k below this share of d, or above one minus it, is rejected


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
    return _mean_k([scan_k(v, w, d, 4 * lipschitz) for v, w in zip(values, weights, strict=True)])


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
    return _mean_k([scan_k(v, w, d, float(v.max() - v.min()) / m) for v, w in pairs])


def largest_gap_k(values: Tensor, weights: Tensor, d: int) -> int | None:
    """Number of steep values above the widest gap; of equal gaps, the first from the top of -H."""
    found = []
    for v, w in zip(values, weights, strict=True):
        order = v.argsort(stable=True)
        gaps = v[order].diff()
        gap = len(gaps) and gaps.max() > 0
        found.append(d * float(w[order][int(gaps.argmax()) + 1 :].sum()) if gap else None)
    return _mean_k(found)


def flat_k(values: Tensor, weights: Tensor, d: int, below: Tensor | float) -> int:
    """k = d * mean mass of the values at or below a threshold: the flat and negative side."""
    return round(d * float((weights * (values <= below)).sum(-1).mean()))


def _mean_k(found: list[float | None]) -> int | None:
    passing = [k for k in found if k is not None]
    return round(sum(passing) / len(passing)) if passing else None


def _usable(k: int, d: int) -> bool:
    """Whether a cut is not degenerate."""
    return DEGENERATE * d <= k <= (1 - DEGENERATE) * d


def measured_lipschitz(task: Task) -> float:
    """K as measured by the stage `lipschitz`.

    Raises:
        ValueError: the stage's measurement is not available.
    """
    found = task.measured.get("lipschitz")
    if found is None:
        raise ValueError(
            "this stage compares gaps with the Lipschitz constant: it needs the measure stage"
            " 'lipschitz' (needs: [lipschitz])"
        )
    return float(found.report["lipschitz"])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Gap:
    """How many directions to prune: `method.gap`.

    Args:
        rule: `smoothed_sign` (default, our reading), `literal` (the paper's scan),
            `resolution_merged` and `largest_gap` (also scans: k counts the steep side), `sign` (H
            <= 0), `effective_rank` (H <= tau * lambda_max), `fixed` (`sparsity`).
        sigma2: variance of the smoothing as a share of the spectrum's range. Default: PyHessian's.
        tau: for `effective_rank`.
        sparsity: pruned share for `fixed`, and for `on_degenerate=fixed`. The paper's: 0.47 and
            0.45 (CIFAR-10), 0.18 and 0.29 (CIFAR-100).
        on_degenerate: if k is missing, below 1 % or above 99 % of d: raise an error (`error`), or
            prune `sparsity` instead (`fixed`).
    """

    tag: ClassVar[str] = "gap"
    rule: str = "smoothed_sign"
    sigma2: float = 1e-5
    tau: float = 1e-4
    sparsity: float | None = None
    on_degenerate: str = "error"

    def __post_init__(self) -> None:
        problems = not_among("method.gap.rule", self.rule, RULES) + not_among(
            "method.gap.on_degenerate", self.on_degenerate, ("error", "fixed")
        )
        problems += [
            f"method.gap.{name}={getattr(self, name)} must be positive"
            for name in ("sigma2", "tau")
            if not getattr(self, name) > 0
        ]
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            problems.append(
                f"method.gap.sparsity={self.sparsity} must be in [0, 1): it is the pruned share,"
                " 0.47 keeps density=0.53"
            )
        for key in ("rule", "on_degenerate"):
            if getattr(self, key) == "fixed" and self.sparsity is None:
                problems.append(
                    f"method.gap.sparsity is missing: method.gap.{key}=fixed prunes that share,"
                    " e.g. method.gap.sparsity=0.47"
                )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def needs_lipschitz(self) -> bool:
        """Whether the rule compares gaps with K."""
        return self.rule == "literal"

    def find(self, values: Tensor, weights: Tensor, d: int, lipschitz: float) -> int | None:
        """k by the rule, before any check; values and weights have shape (probes, m)."""
        rules: dict[str, Callable[[], int | None]] = {
            "smoothed_sign": lambda: smoothed_k(values, weights, d, self.sigma2),
            "literal": lambda: literal_k(values, weights, d, lipschitz),
            "resolution_merged": lambda: resolution_k(values, weights, d),
            "effective_rank": lambda: flat_k(
                values, weights, d, self.tau * values.amax(-1, keepdim=True)
            ),
            "sign": lambda: flat_k(values, weights, d, 0.0),
            "largest_gap": lambda: largest_gap_k(values, weights, d),
            "fixed": lambda: self._fixed(d),
        }
        return rules[self.rule]()

    def cut(
        self,
        values: Tensor,
        weights: Tensor,
        d: int,
        lipschitz: float,
        density: float | None = None,
    ) -> tuple[int, str]:
        """k to prune of d, and the rule that gave it. A given density implies `fixed`.

        Raises:
            ValueError: the cut is degenerate and `on_degenerate` is `error`.
        """
        if density is not None:
            return d - keep_count(density, d), "fixed"
        k = self.find(values, weights, d, lipschitz)
        if self.rule == "fixed":
            assert k is not None
            return k, "fixed"
        if k is not None and _usable(k, d):
            return k, self.rule
        if self.on_degenerate == "fixed":
            return self._fixed(d), "fixed"
        found = "no gap" if k is None else f"k = {k:,}, sparsity {k / d:.4f}"
        threshold = f" with 4K = {4 * lipschitz:.3g}" if self.needs_lipschitz else ""
        raise ValueError(
            f"method.gap.rule={self.rule} found {found}, of d = {d:,}{threshold}: outside 1 to 99"
            f" %, so it is no usable cut. {self._others(values, weights, d)}Or give density=0.53,"
            " or method.gap.on_degenerate=fixed method.gap.sparsity=0.47"
        )

    def _others(self, values: Tensor, weights: Tensor, d: int) -> str:
        """What the other rules find in the same values, as a sentence; empty if none is usable."""
        cuts = {
            rule: replace(self, rule=rule).find(values, weights, d, 0.0)
            for rule in RULES
            if rule not in (self.rule, "literal", "fixed")
        }
        usable = [
            f"{rule} {k / d:.4f}" for rule, k in cuts.items() if k is not None and _usable(k, d)
        ]
        return f"Sparsity by other rules: {', '.join(usable)}. " if usable else ""

    def _fixed(self, d: int) -> int:
        assert self.sparsity is not None
        return d - keep_count(1.0 - self.sparsity, d)
