"""The Hessian's spectrum and the leverage of every weight (IMC, section 3.3, step 3).

The estimators and their formulas: pruners/curvature/estimators.py. Coordinates whose rows of H are
exact zeros (dead units) have leverage 0 on a hard curved or `abs` side: they rank below every
direction that affects the loss. `leverage_ratio` may then be below 1.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from pruners.base import (
    PRODUCT,
    STANDARD_ERROR,
    Finding,
    Masks,
    Measurement,
    Task,
    Work,
)
from pruners.curvature.certainty import WITH_RUNS, Runs, standard_error
from pruners.curvature.estimators import ESTIMATORS
from pruners.curvature.gap import SUBSPACES, Gap, measured_lipschitz
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.lanczos import MatVec
from pruners.curvature.leverage import KNOWN, VARIANCE
from pruners.curvature.options import (
    MASK_RULES,
    SHRINKAGES,
    HessianOptions,
    SpectrumOptions,
    not_among,
    uses_leverage,
)
from pruners.curvature.problem import Estimate, Problem, Step
from pruners.curvature.pyhessian_check import pyhessian_check
from pruners.curvature.samples import task_operator

UNIT = "Hessian-vector products"


@dataclass(frozen=True)
class Spectrum:
    """Measure stage: Ritz values and weights, leverage, diagonal.

    Fields that do not affect the result are set to their defaults, so that such runs share one
    result.

    Args:
        subspace: `smoothed_curved` (f = Phi(x / sigma), for any density), or a hard cut of
            dimension d - k: `curved` (steepest directions), `flat` (most negative first: the W+ of
            the paper's text), `abs` (largest magnitude). Must equal `method.mask.subspace`.
        gap, density: determine k for a hard cut; the smoothed one uses only `gap.sigma2`. A rule
            that counts Ritz values (`gap.ritz_steps`) raises `spectrum.steps` where it is smaller.
        mask_rule: `projected_weight` also measures f(H)W*.
        shrinkage: `method.mask.shrinkage`; only checked, as `layer` requires the leverage's errors.

    `spectrum.deflated_steps` has an effect on `slq` with the smoothed subspace and several probes.
    """

    tag: ClassVar[str] = "spectrum"
    hessian: HessianOptions = field(default_factory=HessianOptions)
    spectrum: SpectrumOptions = field(default_factory=SpectrumOptions)
    subspace: str = "smoothed_curved"
    gap: Gap = field(default_factory=Gap)
    density: float | None = None
    mask_rule: str = ""
    shrinkage: str = "none"

    def __post_init__(self) -> None:
        problems = not_among("method.mask.subspace", self.subspace, SUBSPACES)
        problems += not_among("method.mask.rule", self.mask_rule, ("", *MASK_RULES))
        if self.density is not None and not 0 < self.density <= 1:
            problems.append(f"density={self.density:g} must be in (0, 1]")
        if self.spectrum.check == "pyhessian" and self.hessian.mode == "train":
            problems.append(
                "method.spectrum.check=pyhessian: PyHessian measures in eval mode only; take"
                " method.hessian.mode=eval"
            )
        problems += not_among("method.mask.shrinkage", self.shrinkage, SHRINKAGES)
        problems += self._shrinkage_problems()
        needed = self.gap.ritz_steps if self.density is None else 0
        if needed and self.spectrum.estimator != "slq":
            problems.append(
                f"method.gap.rule={self.gap.rule} counts the Ritz values of runs of {needed} steps,"
                f" which method.spectrum.estimator={self.spectrum.estimator} does not keep: take"
                " method.spectrum.estimator=slq, method.gap.rule=smoothed_sign or density=0.53"
            )
        if problems:
            raise ValueError("\n".join(problems))
        if needed > self.spectrum.steps:
            object.__setattr__(self, "spectrum", replace(self.spectrum, steps=needed))
        if self.subspace == "smoothed_curved":
            object.__setattr__(self, "gap", Gap(sigma2=self.gap.sigma2))
            object.__setattr__(self, "density", None)
        s = self.spectrum
        if self.subspace != "smoothed_curved" or s.estimator != "slq" or s.probes == 1:
            object.__setattr__(self, "spectrum", replace(s, deflated_steps=None))
        if self.mask_rule != "projected_weight":
            object.__setattr__(self, "mask_rule", "")
        object.__setattr__(self, "shrinkage", "none")

    def _shrinkage_problems(self) -> list[str]:
        """Why the leverage cannot be shrunk; empty if it can be, or is not."""
        if self.shrinkage != "layer" or not uses_leverage(self.mask_rule):
            return []
        s, key = self.spectrum, f"method.mask.shrinkage={self.shrinkage}"
        problems = []
        if self.subspace != "smoothed_curved":
            problems.append(
                f"{key} is for method.mask.subspace=smoothed_curved: the errors of a hard cut grow"
                " with the leverage; take method.mask.shrinkage=none"
            )
        if s.estimator not in WITH_RUNS or (s.estimator == "slq" and s.probes < 2):
            problems.append(
                f"{key} takes the errors of the leverage from the spread between probes, which"
                f" method.spectrum.estimator={s.estimator} with method.spectrum.probes={s.probes}"
                " does not give: take slq with at least 2 probes, dense, or"
                " method.mask.shrinkage=none"
            )
        return problems

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Measure H at the model's weights; the model is not changed."""
        operator = task_operator(model, masks, task, self.hessian, self._vectors())
        found = ESTIMATORS[self.spectrum.estimator](self._problem(operator, task))
        by_name = {"leverage": found.leverage, "diagonal": found.diagonal}
        if found.projected is not None:
            by_name["projected"] = found.projected
        if found.known is not None:
            by_name[KNOWN] = found.known
        tensors = {
            f"{kind}/{name}": t.float().cpu()
            for kind, v in by_name.items()
            for name, t in operator.split(v.to(operator.point)).items()
        }
        if found.variance is not None:
            tensors |= {
                f"{VARIANCE}/{name}": t.cpu().double().mean()
                for name, t in operator.split(found.variance.to(operator.point)).items()
            }
        tensors |= {"ritz_values": found.values, "ritz_weights": found.weights}
        report = summary(found) | {
            "spectrum_estimator": self.spectrum.estimator,
            "dimension": operator.dimension,
            "samples": operator.samples,
            "subspace": self.subspace,
        }
        if self.spectrum.estimator in WITH_RUNS:
            report |= certainties(found, operator.dimension)
        if self.spectrum.check == "pyhessian":
            report |= pyhessian_check(operator, task.rng)
        return Measurement(tensors, report)

    def _problem(self, operator: HessianOperator, task: Task) -> Problem:
        needs_k = self.gap.needs_lipschitz and self.density is None
        step = Step(
            self.subspace,
            self.gap,
            self.density,
            measured_lipschitz(task) if needs_k else 0.0,
        )
        matvec = _counted(operator, task, self._products(operator.dimension))
        return Problem(matvec, operator.point, task.rng, self.spectrum, step, bool(self.mask_rule))

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """Work of `__call__`, without `check`; less if a Krylov space is exhausted early."""
        s, d = self.spectrum, parameters if self.hessian.params == "all" else prunable
        products, n = self._products(d), min(self.hessian.n_samples, images)
        rows, columns = {
            "slq": (s.probes if s.deflated_steps is None else 1, min(s.steps, d)),
            "lanczos_extremes": (1, min(s.steps, d)),
        }.get(s.estimator, (1, d))
        ritz = 4 * rows * columns  # two float64 each: value and weight
        vectors = 2 + bool(self.mask_rule) + (s.deflated_steps is not None)
        return Work(products * n, products * n * PRODUCT, products, floats=d * vectors + ritz)

    def _vectors(self) -> int:
        """Vectors (d,) that Lanczos runs hold at most: bases and converged Ritz vectors.

        Those of `dense`, whose matrix is at most 400 MB, and of `diag` are not counted.
        """
        s, further = self.spectrum, self.spectrum.steps if self.mask_rule else 0
        if s.estimator not in ("slq", "lanczos_extremes"):
            return further
        if s.estimator == "slq" and self.subspace != "smoothed_curved":
            return s.probes * s.steps + further
        kept = s.estimator == "lanczos_extremes" or s.deflated_steps is not None
        return 2 * s.steps + further if kept else s.steps

    def _products(self, d: int) -> int:
        """Number of products with H in d dimensions."""
        s, runs = self.spectrum, bool(self.mask_rule)
        steps = min(s.steps, d)
        others = steps if s.deflated_steps is None else min(s.deflated_steps, d)
        return {
            "slq": (1 + runs) * steps + (s.probes - 1) * others,
            "lanczos_extremes": (1 + runs) * steps,
            "dense": d,
            "diag": s.probes,
        }[s.estimator]


def _counted(operator: HessianOperator, task: Task, total: int) -> MatVec:
    done = 0

    def matvec(v: Tensor) -> Tensor:
        nonlocal done
        product = operator.matvec(v)
        done += 1
        task.progress(done, total, UNIT)
        return product

    return matvec


def summary(found: Estimate) -> dict[str, Finding]:
    """Findings for the record; `_sd` is the spread over probes, None for a single one."""
    negative = (found.weights * (found.values < 0)).sum(-1)
    per_probe = {
        "lambda_max": found.values.amax(-1),
        "lambda_min": found.values.amin(-1),
        "trace": found.traces,
        "negative_share": negative,
    }
    total = float(found.leverage.double().sum())
    report: dict[str, Finding] = {name: float(t.mean()) for name, t in per_probe.items()}
    # Ritz values lie inside the spectrum, so the extremes over all probes are the best estimates.
    report |= {"lambda_max": float(found.values.max()), "lambda_min": float(found.values.min())}
    report |= {
        f"{name}_sd": float(t.double().std(correction=0)) if len(t) > 1 else None
        for name, t in per_probe.items()
    }
    return report | {
        "leverage_sum": total,
        "leverage_ratio": total / found.dimension if found.dimension else None,
    }


def certainties(found: Estimate, d: int) -> dict[str, Finding]:
    """Standard errors and convergence checks of the findings of `summary`.

    The trace takes one product of each probe, so it has no error of Lanczos. `lambda_max` and
    `lambda_min` are extremes over the probes, their standard errors those of the probes' mean.
    """
    runs = Runs.of(found.values, found.weights, d)
    top, bottom = float(found.values.max()), float(found.values.min())
    return {
        f"trace{STANDARD_ERROR}": standard_error(found.traces.tolist()),
        **runs.certainty(lambda v, _: float(v.max()), top).findings("lambda_max"),
        **runs.certainty(lambda v, _: float(v.min()), bottom).findings("lambda_min"),
        **runs.certainty(lambda v, w: float((w * (v < 0)).sum())).findings("negative_share"),
    }
