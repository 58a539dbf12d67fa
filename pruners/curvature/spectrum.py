"""The Hessian's spectrum and the leverage of every weight, by Lanczos (IMC, section 3.3, step 3).

IMC (NeurIPS 2021) names PyHessian and gives no details; PyHessian cannot give a spectrum of d
eigenvalues. Ours (docs/methods/imc.md) is stochastic Lanczos quadrature
(pruners/curvature/lanczos.py). It takes a probe z of signs and `steps` steps with full
reorthogonalisation done twice. The results are Ritz values theta_j and weights tau_j with

    z'f(H)z / d = sum_j tau_j f(theta_j),

and f(H)z from the same basis. The leverage is l_i = [f(H)]_ii. For the smoothed step it is the mean
over probes of z * f(H)z, and its sum equals the d - k of `gap` up to rounding. For a hard cut it is
the mean of (sqrt(f)(H) z)^2, which is never negative and far less noisy for a small subspace. The
diagonal of H comes from the first product of each probe at no extra cost. Almost all time is spent
on the products H z: probes * steps.

Coordinates whose rows of H are exact zeros (dead units) have leverage 0 on a hard curved or `abs`
side: they rank below every direction that affects the loss. `leverage_ratio` may then be below 1.
Other estimators: `dense` (exact), `lanczos_extremes` (one run; converged Ritz values count as
single eigenvalues), `diag` (H approximated by its diagonal).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import PRODUCT, Finding, Masks, Measurement, Task, Work
from pruners.curvature.gap import (
    SUBSPACES,
    Gap,
    hard_step,
    measured_lipschitz,
    ranking,
    smoothed_step,
)
from pruners.curvature.hessian import (
    HessianOperator,
    HessianOptions,
    fixed_batches,
    not_among,
    pyhessian_check,
)
from pruners.curvature.lanczos import Krylov, MatVec, as_matrix, exact_spectrum, krylov, signs

DENSE_LIMIT = 5000  # parameters; a 5000 x 5000 float64 matrix and its eigenvectors take 400 MB
UNIT = "Hessian-vector products"


@dataclass(frozen=True)
class SpectrumOptions:
    """How the spectrum is estimated: `method.spectrum`.

    Defaults: our measurements (docs/methods/imc.md), absent from the paper.

    Args:
        steps: Lanczos steps of a run; at most d are taken.
        probes: random sign vectors to average over (`slq`, `diag`; `lanczos_extremes` takes one).
        reorth: `full`, or `none`, which demonstrates ghost copies of the outliers.
        check: `pyhessian` reports PyHessian's top eigenvalue and trace beside ours.
    """

    tag: ClassVar[str] = "spectrum_options"
    estimator: str = "slq"
    steps: int = 50
    probes: int = 10
    reorth: str = "full"
    check: str = "none"

    def __post_init__(self) -> None:
        problems = not_among(
            "method.spectrum.estimator",
            self.estimator,
            ("slq", "dense", "lanczos_extremes", "diag"),
        )
        problems += not_among("method.spectrum.reorth", self.reorth, ("full", "none"))
        problems += not_among("method.spectrum.check", self.check, ("none", "pyhessian"))
        problems += [
            f"method.spectrum.{n}={getattr(self, n)} must be at least 1"
            for n in ("steps", "probes")
            if getattr(self, n) < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class Found:
    """Result of an estimator: values, weights (probes, m); vectors (d,) over the parameters."""

    values: Tensor
    weights: Tensor
    leverage: Tensor
    dimension: float  # what the leverage should sum to
    diagonal: Tensor
    traces: Tensor  # (probes,)
    projected: Tensor | None = None


@dataclass(frozen=True)
class Spectrum:
    """Measure stage: Ritz values and weights, leverage, diagonal.

    Fields that do not affect the result are set to their defaults, so that such runs share one
    result.

    Args:
        subspace: `smoothed_curved` (f = Phi(x / sigma), whatever the density), or a hard cut of
            dimension d - k: `curved` (steepest directions), `flat` (most negative first: the W+ of
            the paper's text), `abs` (largest magnitude). Must equal `method.mask.subspace`.
        gap, density: determine k for a hard cut; the smoothed one uses only `gap.sigma2`.
        mask_rule: `projected_weight` also measures f(H)W*.
    """

    tag: ClassVar[str] = "spectrum"
    hessian: HessianOptions = field(default_factory=HessianOptions)
    spectrum: SpectrumOptions = field(default_factory=SpectrumOptions)
    subspace: str = "smoothed_curved"
    gap: Gap = field(default_factory=Gap)
    density: float | None = None
    mask_rule: str = ""

    def __post_init__(self) -> None:
        problems = not_among("method.mask.subspace", self.subspace, SUBSPACES)
        if self.spectrum.check == "pyhessian" and self.hessian.mode == "train":
            problems.append(
                "method.spectrum.check=pyhessian: PyHessian measures in eval mode only; take"
                " method.hessian.mode=eval"
            )
        if problems:
            raise ValueError("\n".join(problems))
        if self.subspace == "smoothed_curved":
            object.__setattr__(self, "gap", Gap(sigma2=self.gap.sigma2))
            object.__setattr__(self, "density", None)
        if self.mask_rule != "projected_weight":
            object.__setattr__(self, "mask_rule", "")

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Measure H at the model's weights; the model is not changed."""
        operator = HessianOperator(
            model, masks, fixed_batches(task, self.hessian), task.loss, self.hessian
        )
        estimate = {
            "slq": self._slq,
            "dense": self._dense,
            "lanczos_extremes": self._extremes,
            "diag": self._diag,
        }[self.spectrum.estimator]
        found = estimate(operator, task)
        by_name = {"leverage": found.leverage, "diagonal": found.diagonal} | (
            {} if found.projected is None else {"projected": found.projected}
        )
        tensors = {
            f"{kind}/{name}": t.float().cpu()
            for kind, v in by_name.items()
            for name, t in operator.split(v.to(operator.point)).items()
        }
        tensors |= {"ritz_values": found.values, "ritz_weights": found.weights}
        report = summary(found) | {
            "dimension": operator.dimension,
            "samples": operator.samples,
            "subspace": self.subspace,
        }
        if self.spectrum.check == "pyhessian":
            report |= pyhessian_check(operator, task.rng)
        return Measurement(tensors, report)

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """Work of `__call__`, without `check`; less if a Krylov space is exhausted early."""
        s, d = self.spectrum, parameters if self.hessian.params == "all" else prunable
        products, n = self._products(d), min(self.hessian.n_samples, images)
        rows, columns = {
            "slq": (s.probes, min(s.steps, d)),
            "lanczos_extremes": (1, min(s.steps, d)),
        }.get(s.estimator, (1, d))
        ritz = 4 * rows * columns  # two float64 each: value and weight
        return Work(
            products * n,
            products * n * PRODUCT,
            products,
            floats=d * (3 if self.mask_rule else 2) + ritz,
        )

    def _products(self, d: int) -> int:
        """Number of products with H in d dimensions."""
        s, runs = self.spectrum, bool(self.mask_rule)
        steps = min(s.steps, d)
        return {
            "slq": (s.probes + runs) * steps,
            "lanczos_extremes": (1 + runs) * steps,
            "dense": d,
            "diag": s.probes,
        }[s.estimator]

    def _slq(self, operator: HessianOperator, task: Task) -> Found:
        s, d, point = self.spectrum, operator.dimension, operator.point
        matvec = _counted(operator, task, self._products(d))
        hard = self.subspace != "smoothed_curved"
        runs: list[Krylov] = []
        rows, traces, dimensions = [], [], []
        leverage, diagonal, dead = (
            torch.zeros_like(point),
            torch.zeros_like(point),
            torch.ones_like(point, dtype=torch.bool),
        )
        for _ in range(s.probes):
            z = signs(d, task.rng, point)
            run, product = _with_product(matvec, z, s)
            diagonal += z * product / s.probes
            dead &= product == 0
            traces.append(float(torch.dot(z.double(), product.double())))
            rows.append(run.padded(min(s.steps, d)))
            if hard:  # the cut needs all probes, so all bases are kept: probes * steps * d numbers
                runs.append(run)
            else:
                f = smoothed_step(run.theta, self.gap.sigma2)
                leverage += z * run.apply(f) / s.probes
                dimensions.append(d * float((run.tau * f).sum()))
        values, weights = (torch.stack(t) for t in zip(*rows, strict=True))
        f = self._steps(values, weights, d, task)
        if hard:
            leverage = _projector_leverage(runs, f)
            if self.subspace != "flat":
                leverage[dead] = 0.0
            dimensions = [d * float((weights * f).sum(-1).mean())]
        projected = self._project(operator, matvec, values, f) if self.mask_rule else None
        return Found(
            values,
            weights,
            leverage,
            sum(dimensions) / len(dimensions),
            diagonal,
            torch.tensor(traces),
            projected,
        )

    def _extremes(self, operator: HessianOperator, task: Task) -> Found:
        s, d = self.spectrum, operator.dimension
        matvec = _counted(operator, task, self._products(d))
        z = signs(d, task.rng, operator.point)
        run, product = _with_product(matvec, z, s)
        sure = run.converged
        if bool(sure.all()) or int(sure.sum()) >= d:
            sure = torch.zeros_like(sure)
        rest = run.tau * ~sure
        weights = torch.where(sure, 1.0 / d, rest * (1 - int(sure.sum()) / d) / rest.sum())
        f = self._steps(run.theta[None], weights[None], d, task)[0]
        vectors = run.lift(run.vectors[:, sure].T)  # eigenvectors (converged, d): exact leverage
        leverage = f[sure].to(vectors) @ vectors**2
        # The probe without these eigenvectors estimates the rest.
        z_rest, f_rest = run.apply((~sure).double()), run.apply(f * ~sure)
        leverage += z_rest * f_rest * float(weights[~sure].sum() / rest.sum())
        projected = self._project(operator, matvec, run.theta, f) if self.mask_rule else None
        trace = torch.tensor([float(torch.dot(z.double(), product.double()))])
        return Found(
            run.theta[None],
            weights[None],
            leverage,
            d * float(weights @ f),
            z * product,
            trace,
            projected,
        )

    def _dense(self, operator: HessianOperator, task: Task) -> Found:
        d = operator.dimension
        if d > DENSE_LIMIT:
            raise ValueError(
                f"method.spectrum.estimator=dense takes up to {DENSE_LIMIT:,} parameters, this net"
                f" has {d:,}: take method.spectrum.estimator=slq"
            )
        h = as_matrix(_counted(operator, task, self._products(d)), operator.point)
        values, vectors, dead = exact_spectrum(h)
        # Eigenvalues whose distance is within rounding count as equal.
        tie = max(torch.finfo(h.dtype).eps, 1e-12) * float(values.abs().max())
        weights = torch.full((1, d), 1.0 / d, dtype=torch.float64)
        f = self._steps(values[None], weights, d, task, dead, tie)[0]
        projected = (
            vectors @ (f * (vectors.T @ operator.point.double().cpu())) if self.mask_rule else None
        )
        diagonal = h.diagonal().double().cpu()
        return Found(
            values[None],
            weights,
            vectors**2 @ f,
            float(f.sum()),
            diagonal,
            diagonal.sum()[None],
            projected,
        )

    def _diag(self, operator: HessianOperator, task: Task) -> Found:
        s, d = self.spectrum, operator.dimension
        matvec, products, dead = (
            _counted(operator, task, self._products(d)),
            [],
            torch.ones_like(operator.point, dtype=torch.bool),
        )
        for _ in range(s.probes):
            z = signs(d, task.rng, operator.point)
            product = matvec(z)
            dead &= product == 0
            products.append((z * product).double().cpu())
        diagonal = sum(products, torch.zeros(d, dtype=torch.float64)) / s.probes
        weights = torch.full((1, d), 1.0 / d, dtype=torch.float64)
        f = self._steps(diagonal[None], weights, d, task, dead.cpu())[0]
        projected = f * operator.point.double().cpu() if self.mask_rule else None
        return Found(
            diagonal.sort().values[None],
            weights,
            f,
            float(f.sum()),
            diagonal,
            torch.stack([p.sum() for p in products]),
            projected,
        )

    def _steps(
        self,
        values: Tensor,
        weights: Tensor,
        d: int,
        task: Task,
        dead: Tensor | None = None,
        tie: float = 0.0,
    ) -> Tensor:
        """f at the Ritz values, (probes, m): the smoothed step, or a hard cut of d - k dimensions.

        Args:
            dead: values that belong to dead coordinates, (m,); they rank last for `curved` and
                `abs`.
        """
        if self.subspace == "smoothed_curved":
            return smoothed_step(values, self.gap.sigma2)
        needs_k = self.gap.needs_lipschitz and self.density is None
        k, _ = self.gap.cut(
            values, weights, d, measured_lipschitz(task) if needs_k else 0.0, self.density
        )
        keys = ranking(values, self.subspace)
        if dead is not None and self.subspace != "flat":
            keys = keys.masked_fill(dead, -torch.inf)
        return hard_step(keys, weights / len(weights), (d - k) / d, tie)

    def _project(
        self, operator: HessianOperator, matvec: MatVec, values: Tensor, f: Tensor
    ) -> Tensor:
        """f(H) W*, shape (d,), by one more run.

        A hard cut is placed where f falls below half of its largest value.
        """
        run = krylov(matvec, operator.point, self.spectrum.steps, self.spectrum.reorth)
        if self.subspace == "smoothed_curved":
            return run.apply(smoothed_step(run.theta, self.gap.sigma2))
        cut = ranking(values, self.subspace)[f >= f.max() / 2].min()
        return run.apply((ranking(run.theta, self.subspace) >= cut).double())


def _counted(operator: HessianOperator, task: Task, total: int) -> MatVec:
    done = 0

    def matvec(v: Tensor) -> Tensor:
        nonlocal done
        product = operator.matvec(v)
        done += 1
        task.tick(done, total, UNIT)
        return product

    return matvec


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


def summary(found: Found) -> dict[str, Finding]:
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
