"""What readings of IMC's sparsity give on one net, against the number of Lanczos steps.

IMC (NeurIPS 2021), section 3.3; docs/methods/imc.md. A Lanczos run of m steps contains the runs of
fewer steps, so one run gives all of them (`leading` in pruners/curvature/lanczos.py). Readings:

- `ritz_sign`: the share of Ritz values that are not positive;
- `smoothed_sign`: one minus the smoothed mass above zero;
- `sign`: the mass of the Ritz values that are not positive.

The numbers do not come from the method's own stages, whose runs are short.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import PRODUCT, Finding, Masks, Measurement, Task, Work
from pruners.curvature.certainty import standard_error
from pruners.curvature.cuts import smoothed_step
from pruners.curvature.gap import Gap
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.lanczos import krylov, leading, signs
from pruners.curvature.options import HessianOptions, not_among
from pruners.curvature.pyhessian_check import pyhessian_ritz_values
from pruners.curvature.samples import task_operator

UNIT = "Hessian-vector products"


@dataclass(frozen=True)
class RitzSigns:
    """Measure stage: shares of the spectrum by three readings, at several numbers of steps.

    Args:
        steps: ascending; the longest is taken, the others are its leading blocks.
        counted: the steps at which the report states the share; one of `steps`.
        probes: runs from different start vectors, whose mean is reported.
        sigma2: of `smoothed_sign`.
        check: `pyhessian` also counts in a run of `counted` steps by PyHessian itself.
    """

    tag: ClassVar[str] = "ritz_signs"
    hessian: HessianOptions = field(default_factory=HessianOptions)
    steps: tuple[int, ...] = (25, 50, 100, 200, 400)
    counted: int = Gap.steps
    probes: int = 1
    sigma2: float = Gap.sigma2
    check: str = "none"

    def __post_init__(self) -> None:
        problems = not_among("portrait.check", self.check, ("none", "pyhessian"))
        if not self.steps or sorted(set(self.steps)) != list(self.steps) or self.steps[0] < 1:
            problems.append(
                f"portrait.steps={list(self.steps)} must be ascending numbers of at least 1"
            )
        if self.counted not in self.steps:
            problems.append(
                f"portrait.counted={self.counted} must be one of portrait.steps={list(self.steps)}"
            )
        if self.probes < 1:
            problems.append(f"portrait.probes={self.probes} must be at least 1")
        if not self.sigma2 > 0:
            problems.append(f"portrait.sigma2={self.sigma2} must be positive")
        if self.check == "pyhessian" and self.hessian.mode == "train":
            problems.append(
                "portrait.check=pyhessian: PyHessian measures in eval mode only; take"
                " portrait.hessian.mode=eval"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return the shares by steps as series, and those at `counted` as a report.

        Series: `ritz_steps` (n) and, as means over the probes, `ritz_sign`, `smoothed_sign` and
        `sign` (n); `ritz_sign_each`, the shares at `counted` of each probe. Report: `ritz_sign`,
        its `_se` over the probes (None for one) and its value with `_half` of the steps;
        `ritz_values`, the number of values that were counted, smaller than `counted` where a Krylov
        space was exhausted; `images`; and `ritz_sign_pyhessian`.
        """
        operator = task_operator(model, masks, task, self.hessian, self.steps[-1])
        runs = [self._run(operator, task, i) for i in range(self.probes)]
        counted = [leading(*run, self.counted)[0] for run in runs]
        half = [leading(*run, max(1, self.counted // 2))[0] for run in runs]
        shares = torch.stack([_not_positive(theta) for theta in counted])
        report: dict[str, Finding] = {
            "ritz_sign": float(shares.mean()),
            "ritz_sign_se": standard_error(shares.tolist()),
            "ritz_sign_half": float(torch.stack([_not_positive(t) for t in half]).mean()),
            "ritz_values": min(len(theta) for theta in counted),
            "dimension": operator.dimension,
            "images": operator.samples,
        }
        if self.check == "pyhessian":
            theirs = pyhessian_ritz_values(operator, task.rng, self.counted)
            report["ritz_sign_pyhessian"] = float(_not_positive(theirs))
        by_steps = torch.stack([self._shares(*run) for run in runs]).mean(0)  # (3, n)
        names = ("ritz_sign", "smoothed_sign", "sign")
        return Measurement(
            report=report,
            series={
                "ritz_steps": list(map(float, self.steps)),
                "ritz_sign_each": shares.tolist(),
            }
            | dict(zip(names, by_steps.tolist(), strict=True)),
        )

    def _run(self, operator: HessianOperator, task: Task, number: int) -> tuple[Tensor, Tensor]:
        """Ritz values and weights of a run of the largest number of steps from random signs."""
        done, longest = number * self.steps[-1], self.steps[-1]

        def matvec(v: Tensor) -> Tensor:
            nonlocal done
            product = operator.matvec(v)
            done += 1
            task.progress(done, self.probes * longest, UNIT)
            return product

        run = krylov(matvec, signs(operator.dimension, task.rng, operator.point), longest)
        return run.theta, run.tau

    def _shares(self, values: Tensor, weights: Tensor) -> Tensor:
        """The three shares of a run at each number of steps, (3, n)."""
        parts = [leading(values, weights, m) for m in self.steps]
        return torch.tensor(
            [
                [float(_not_positive(theta)) for theta, _ in parts],
                [1 - float(tau @ smoothed_step(theta, self.sigma2)) for theta, tau in parts],
                [float(tau[theta <= 0].sum()) for theta, tau in parts],
            ],
            dtype=torch.float64,
        )

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """Work of `__call__`; less if a Krylov space is exhausted early."""
        d = parameters if self.hessian.params == "all" else prunable
        theirs = self.counted if self.check == "pyhessian" else 0
        products = self.probes * min(self.steps[-1], d) + theirs
        n = min(self.hessian.n_samples, images)
        return Work(products * n, products * n * PRODUCT, products)


def _not_positive(theta: Tensor) -> Tensor:
    """Share of the values (m,) that are not positive, a scalar in float64."""
    return (theta <= 0).double().mean()
