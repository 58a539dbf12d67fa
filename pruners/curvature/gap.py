"""IMC's cut of the spectrum: the number k of directions (and weights) to prune, from Ritz values.

IMC (NeurIPS 2021), Theorem 5 and step 5 of section 3.3: A = -H, eigenvalues ascending, the first k
from the top with lambda_{k+1} - lambda_k > 4K; W- has dimension k, and the sparsity is k / d.
`literal_k` is this scan and is always reported.

Deviations (docs/methods/imc.md; docs/decisions.md 14): on every net that we measured the
printed rule finds no gap, or k = d - 1, or a handful of outliers. The sparsity therefore comes from
`rule`, which is our reading and no gap. conf/method/imc.yaml states `ritz_sign`: PyHessian's
`density()` takes 100 Lanczos steps and returns 100 Ritz values, and the paper's sparsities have two
digits. The rule counts the values that are not positive. It says what the authors may have done; it
is no property of H, because it depends on the number of steps, which is therefore part of the
reading.

`smoothed_sign`, the default of the class, which run ids leave out: one minus the mass on H > 0 of
the spectral density that PyHessian would plot, in which each Ritz value is a Gaussian of variance
sigma2 * max(1, range). k is d times a mass, averaged over the probes, because a few dozen Ritz
values do not give d eigenvalues. With the dense estimator k is a count. `range` is that of each
probe's own Ritz values. With many steps the mass tends to one half (docs/methods/imc.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from pruners.base import Finding, Task, keep_count
from pruners.curvature.certainty import Runs
from pruners.curvature.cuts import (
    flat_k,
    largest_gap_k,
    literal_k,
    resolution_k,
    ritz_sign_k,
    shortened,
    smoothed_k,
)
from pruners.curvature.options import not_among

RITZ_SIGN = "ritz_sign"
RULES = (
    "smoothed_sign",
    RITZ_SIGN,
    "literal",
    "resolution_merged",
    "effective_rank",
    "sign",
    "largest_gap",
    "fixed",
)
SUBSPACES = ("smoothed_curved", "curved", "flat", "abs")
DEGENERATE = 0.01  # a k below this share of d, or above one minus it, is rejected


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
        rule: `ritz_sign` (our reading, stated in YAML: share of the Ritz values of a run of `steps`
            steps that are not positive), `smoothed_sign`, `literal` (the paper's scan),
            `resolution_merged` and `largest_gap` (also scans: k counts the steep side), `sign` (H
            <= 0), `effective_rank` (H <= tau * lambda_max), `fixed` (`sparsity`).
        sigma2: variance of the smoothing as a share of the spectrum's range. Default: PyHessian's.
        tau: for `effective_rank`.
        sparsity: pruned share for `fixed`, and for `on_degenerate=fixed`. The paper's: 0.47 and
            0.45 (CIFAR-10), 0.18 and 0.29 (CIFAR-100).
        on_degenerate: if k is missing, below 1 % or above 99 % of d: raise an error (`error`), or
            prune `sparsity` instead (`fixed`).
        steps: Lanczos steps of the runs in which `ritz_sign` counts. Default: PyHessian's.
    """

    tag: ClassVar[str] = "gap"
    rule: str = "smoothed_sign"
    sigma2: float = 1e-5
    tau: float = 1e-4
    sparsity: float | None = None
    on_degenerate: str = "error"
    steps: int = 100

    def __post_init__(self) -> None:
        problems = not_among("method.gap.rule", self.rule, RULES) + not_among(
            "method.gap.on_degenerate", self.on_degenerate, ("error", "fixed")
        )
        problems += [
            f"method.gap.{name}={getattr(self, name)} must be positive"
            for name in ("sigma2", "tau")
            if not getattr(self, name) > 0
        ]
        if self.steps < 1:
            problems.append(f"method.gap.steps={self.steps} must be at least 1")
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
    def ritz_steps(self) -> int:
        """Lanczos steps that the rule requires; 0 if it accepts any number."""
        return self.steps if self.rule == RITZ_SIGN else 0

    @property
    def needs_lipschitz(self) -> bool:
        """Whether the rule compares gaps with K."""
        return self.rule == "literal"

    def find(self, values: Tensor, weights: Tensor, d: int, lipschitz: float) -> int | None:
        """k by the rule, before any check; values and weights have shape (probes, m)."""
        rules: dict[str, Callable[[], int | None]] = {
            "smoothed_sign": lambda: smoothed_k(values, weights, d, self.sigma2),
            RITZ_SIGN: lambda: ritz_sign_k(values, weights, d, self.steps),
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

    def certainties(
        self, values: Tensor, weights: Tensor, d: int, lipschitz: float, found: bool
    ) -> dict[str, Finding]:
        """Standard errors and convergence checks of `smoothed_density`, `literal_k` and, if the
        rule has found it (`found`; never by `fixed`), of `found_density`.

        `ritz_sign` has no limit, so only its standard error and its value with half of `steps` are
        stated, and `ritz_values`, the smallest number of values that were counted in a run.
        """
        runs, literal = Runs.of(values, weights, d), literal_k(values, weights, d, lipschitz)

        def density(v: Tensor, w: Tensor) -> float | None:
            k = self.find(v, w, d, lipschitz)
            return None if k is None else 1 - k / d

        report = {
            **runs.certainty(lambda v, w: 1 - smoothed_k(v, w, d, self.sigma2) / d).findings(
                "smoothed_density"
            ),
            **runs.certainty(lambda v, w: literal_k(v, w, d, lipschitz), literal or 0).findings(
                "literal_k"
            ),
        }
        if not found or self.rule == "fixed":
            return report
        if self.rule != RITZ_SIGN:
            return report | runs.certainty(density).findings("found_density")
        counted = shortened(values, weights, self.steps)
        certain = Runs.of(*counted, d).certainty(density, limit=False)
        return report | {
            **certain.findings("found_density"),
            "ritz_values": int((counted[1] > 0).sum(-1).min()),
        }

    def _others(self, values: Tensor, weights: Tensor, d: int) -> str:
        """What the other rules find in the same values, as a sentence; empty if none is usable.

        Without `ritz_sign`, for which the runs may be too short.
        """
        cuts = {
            rule: replace(self, rule=rule).find(values, weights, d, 0.0)
            for rule in RULES
            if rule not in (self.rule, RITZ_SIGN, "literal", "fixed")
        }
        usable = [
            f"{rule} {k / d:.4f}" for rule, k in cuts.items() if k is not None and _usable(k, d)
        ]
        return f"Sparsity by other rules: {', '.join(usable)}. " if usable else ""

    def _fixed(self, d: int) -> int:
        assert self.sparsity is not None
        return d - keep_count(1.0 - self.sparsity, d)
