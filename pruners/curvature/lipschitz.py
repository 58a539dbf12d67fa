"""The Lipschitz constant K of IMC's nonlinear term F(U), U = W - W* (NeurIPS 2021, section 3.2).

K = 2 B N (Eq. 22), with N from Eq. 23:

    N = || [g(V + Delta M / |M|_p) - 2 g(V) + g(V - Delta M / |M|_p)] / Delta^2 ||_p,

where g = grad L and M is random normal.

Our choices where the paper specifies nothing (docs/methods/imc.md):
- B = max|W0 - W*|, the largest change of any weight in the training that led to W*; V = W*.
- 8 directions, of which the largest N counts: one direction gives an average over directions and
  not a norm.
- float64 by default, because Delta^2 = 1e-4 amplifies float32's rounding ten-thousandfold.
- L and the parameters are those of H.

We could not reproduce the paper's 1e-12: a second difference has no such values (section 2).
`eq23_no_root` omits the p-th root, which is a possible explanation. `hessian_diff` is the constant
on the segment itself, |H(V) - H(W*)|, by Lanczos.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import GRADIENT, PRODUCT, Finding, Masks, Measurement, Task, Work
from pruners.curvature.certainty import Certainty, Runs
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.lanczos import krylov
from pruners.curvature.options import DTYPES, HessianOptions, not_among
from pruners.curvature.samples import fixed_batches

# Autograd's names of operations with a discontinuous gradient.
KINKS = ("Relu", "Threshold", "HardTanh", "Hardtanh", "MaxPool", "AbsBackward", "Clamp")
NOTE = "non-smooth: K diverges as delta -> 0"
POWER_STEPS = 30  # Lanczos steps for |H(V) - H(W*)|; its top eigenvalue converges long before
# K is a threshold for gaps and no share, so a tenth is near enough.
TOLERANCE = 0.1
REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "max": torch.max,
    "mean": torch.mean,
    "median": torch.median,
}


def second_difference(
    grad: Callable[[Tensor], Tensor],
    v: Tensor,
    direction: Tensor,
    delta: float,
    p: float = 2.0,
    centre: Tensor | None = None,
) -> Tensor:
    """[g(V + s) - 2 g(V) + g(V - s)] / Delta^2 with s = Delta M / |M|_p, shape (d,).

    This is the vector inside the norm of Eq. 23.

    Args:
        grad: the gradient as a function of the weights (d,).
        v, direction: V and M, (d,); use float64 to avoid rounding errors.
        centre: g(V), if it is known already.
    """
    step = delta * direction / direction.norm(p)
    return (
        grad(v + step) - 2 * (grad(v) if centre is None else centre) + grad(v - step)
    ) / delta**2


def norm_of(q: Tensor, p: float, root: bool = True) -> float:
    """|q|_p, or sum |q_i|^p without the root."""
    return float(q.norm(p)) if root else float((q.abs() ** p).sum())


@dataclass(frozen=True)
class Lipschitz:
    """Measure stage for K and its factors: `method.lipschitz`.

    The stage needs the initial weights as `task.measured["init"]` (needs: [init]).

    Args:
        estimator: `eq23` (the paper's), `eq23_no_root` (diagnostic), `hessian_diff`, `const` (K is
            `const`: 0 or the paper's 1e-12).
        p, delta: norm and step of Eq. 23; the paper's 2 and 0.01.
        norm: `p`, or `max` for p = infinity, which is part of the paper's sweep (appendix A.5) and
            which identities cannot represent as a number; `p` is then not used.
        directions: number of random directions, each with its own V if V is random; `reduce`
            combines their results into one number.
        V: the point: `wstar`, `init`, `midpoint` of the two, `box` (uniform in W* +- B).
        B: `linf` = max|W0 - W*| (the paper's l-infinity bound) or `l2`, the length of that vector.
        hessian: which samples, parameters and mode; its dtype is replaced by `dtype`.
    """

    tag: ClassVar[str] = "lipschitz"
    estimator: str = "eq23"
    p: float = 2.0
    delta: float = 0.01
    directions: int = 8
    reduce: str = "max"
    V: str = "wstar"
    B: str = "linf"
    dtype: str = "float64"
    const: float = 0.0
    hessian: HessianOptions = field(default_factory=HessianOptions)
    norm: str = "p"

    def __post_init__(self) -> None:
        problems = not_among(
            "method.lipschitz.estimator",
            self.estimator,
            ("eq23", "eq23_no_root", "hessian_diff", "const"),
        )
        problems += not_among("method.lipschitz.reduce", self.reduce, tuple(REDUCE))
        problems += not_among("method.lipschitz.V", self.V, ("wstar", "init", "midpoint", "box"))
        problems += not_among("method.lipschitz.B", self.B, ("linf", "l2"))
        problems += not_among("method.lipschitz.dtype", self.dtype, tuple(DTYPES))
        problems += not_among("method.lipschitz.norm", self.norm, ("p", "max"))
        if not 1 <= self.p < float("inf"):
            infinite = self.p == float("inf")
            hint = "; for p = infinity take method.lipschitz.norm=max" if infinite else ""
            problems.append(f"method.lipschitz.p={self.p} must be a number from 1 up{hint}")
        if self.norm == "max" and self.estimator == "eq23_no_root":
            problems.append(
                "method.lipschitz.norm=max: estimator=eq23_no_root sums |q|^p, which is undefined"
                " for p = infinity; take estimator=eq23 or norm=p"
            )
        if not self.delta > 0:
            problems.append(f"method.lipschitz.delta={self.delta} must be positive")
        if self.directions < 1:
            problems.append(f"method.lipschitz.directions={self.directions} must be at least 1")
        if not 0 <= self.const < float("inf"):
            problems.append(f"method.lipschitz.const={self.const} must be 0 or a positive number")
        if self.estimator == "hessian_diff" and self.V == "wstar":
            problems.append(
                "method.lipschitz.V=wstar: estimator=hessian_diff compares H(V) with H(W*), which"
                " are equal there; take init, midpoint or box"
            )
        if problems:
            raise ValueError("\n".join(problems))
        # H's dtype is not used here; the default lets runs that differ in it share one result.
        object.__setattr__(self, "hessian", replace(self.hessian, dtype=HessianOptions().dtype))
        if self.norm == "max":
            object.__setattr__(self, "p", Lipschitz.p)  # not used: such runs share one result

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Estimate K at the model's weights W*; the model is not changed."""
        if self.estimator == "const":
            return Measurement(report={"lipschitz": self.const, "lipschitz_n": None})
        options = replace(self.hessian, dtype=self.dtype)
        # hessian_diff holds the graphs of two operators and one basis.
        memory, vectors = task.memory, 0
        if self.estimator == "hessian_diff":
            memory, vectors = memory / 2, -(-POWER_STEPS // 2)
        batches = fixed_batches(task, options)
        operator = HessianOperator(
            model, masks, batches, task.loss, options, memory, vectors=vectors, team=task.team
        )
        # U at the start of training, (d,)
        move = operator.flatten(_initial(task, operator.names)) - operator.point
        box = float(move.abs().max() if self.B == "linf" else move.norm())
        found: list[float] = []
        changes: list[float] = []  # relative errors of Lanczos
        centre = (
            operator.gradient(self._point(operator.point, move, box, task))
            if self.estimator != "hessian_diff" and self.V != "box"
            else None
        )
        runs = self._runs()
        for i in range(runs):
            point = self._point(operator.point, move, box, task)
            if self.estimator == "hessian_diff":
                n, change = self._hessian_diff(operator, point, task)
            else:
                n, change = self._eq23(operator, point, centre, task), 0.0
            found.append(n)
            changes.append(change)
            task.progress(i + 1, runs, "directions")
        measured = torch.tensor(found, dtype=torch.float64)
        return Measurement(report=self._report(measured, box, max(changes)) | _note(operator))

    def _runs(self) -> int:
        # The norm of H(V) - H(W*) at a fixed V does not depend on a direction.
        return 1 if self.estimator == "hessian_diff" and self.V != "box" else self.directions

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """Work of `__call__`.

        `eq23` takes three gradients per direction (the central one only once if all directions
        share V), `hessian_diff` two products per Lanczos step.
        """
        n = min(self.hessian.n_samples, images)
        if self.estimator == "const":
            return Work(0, 0)
        if self.estimator == "hessian_diff":
            d = parameters if self.hessian.params == "all" else prunable
            products = 2 * self._runs() * min(POWER_STEPS, d)
            return Work(products * n, products * n * PRODUCT, products)
        gradients = 3 * self.directions if self.V == "box" else 2 * self.directions + 1
        return Work(gradients * n, gradients * n * GRADIENT)

    def _eq23(
        self, operator: HessianOperator, point: Tensor, centre: Tensor | None, task: Task
    ) -> float:
        p = self.p if self.norm == "p" else float("inf")
        q = second_difference(operator.gradient, point, _normal(point, task), self.delta, p, centre)
        return norm_of(q, p, root=self.estimator == "eq23")

    def _hessian_diff(
        self, operator: HessianOperator, point: Tensor, task: Task
    ) -> tuple[float, float]:
        """Largest |eigenvalue| of H(V) - H(W*), and its relative change from fewer steps."""
        there = operator.at(point)
        run = krylov(
            lambda v: there.matvec(v) - operator.matvec(v), _normal(point, task), POWER_STEPS
        )
        runs = Runs.of(run.theta[None], run.tau[None], operator.dimension)
        n = float(run.theta.abs().max())
        return n, runs.certainty(lambda v, _: float(v.abs().max())).change / (n or 1.0)

    def _point(self, wstar: Tensor, move: Tensor, box: float, task: Task) -> Tensor:
        if self.V == "box":
            return wstar + box * (
                2 * torch.rand(len(wstar), generator=task.rng, dtype=torch.float64).to(wstar) - 1
            )
        return wstar + {"wstar": 0.0, "init": 1.0, "midpoint": 0.5}[self.V] * move

    def _report(self, found: Tensor, box: float, change: float) -> dict[str, Finding]:
        """Findings on K.

        The standard error is the jackknife's over the directions (that of a mean is s / sqrt(n)).
        The convergence check compares all directions with the first half of them and, for
        `hessian_diff`, all Lanczos steps with fewer (`change`, relative).
        """
        factor = 1.0 if self.estimator == "hessian_diff" else 2 * box
        reduce = REDUCE[self.reduce]
        n, error, half = float(reduce(found)), jackknife(reduce, found), None
        if len(found) > 1:
            half = float(reduce(found[: len(found) // 2]))
            change = max(change, abs(n - half) / (n or 1.0))
        checked = len(found) > 1 or self.estimator == "hessian_diff"
        certain = Certainty(
            None if error is None else factor * error,
            None if half is None else factor * half,
            factor * n * change,
            change <= TOLERANCE if checked else None,
        )
        return {
            "lipschitz": factor * n,
            "lipschitz_n": n,
            "lipschitz_min": float(found.min()),
            "lipschitz_max": float(found.max()),
            "lipschitz_sd": float(found.std(correction=0)) if len(found) > 1 else None,
            "box": box,
            **certain.findings("lipschitz"),
        }


def jackknife(reduce: Callable[[Tensor], Tensor], found: Tensor) -> float | None:
    """The jackknife's standard error of `reduce` of n numbers (n,); None for one (Efron, 1982).

    With t_i the result without number i: sqrt((n - 1) / n * sum (t_i - mean t)^2).
    """
    n = len(found)
    if n < 2:
        return None
    without = torch.stack([reduce(torch.cat([found[:i], found[i + 1 :]])) for i in range(n)])
    return float(((n - 1) * without.var(correction=0)).sqrt())


def _normal(like: Tensor, task: Task) -> Tensor:
    """A standard normal vector, drawn in float64 on the CPU.

    It is thus the same for every device and dtype.
    """
    return torch.randn(len(like), generator=task.rng, dtype=torch.float64).to(like)


def _initial(task: Task, names: list[str]) -> dict[str, Tensor]:
    found = task.measured.get("init")
    if found is None or any(name not in found.tensors for name in names):
        raise ValueError(
            "the Lipschitz constant needs the initial weights for B = max|W0 - W*|:"
            " give the stage needs: [init]"
        )
    return dict(found.tensors)


def _note(operator: HessianOperator) -> dict[str, Finding]:
    """A warning for nets with a discontinuous gradient, as found in the graph of the loss."""
    x, y = operator.given[0]
    seen, queue = set(), [operator.loss(operator.model(x), y).grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [parent for parent, _ in node.next_functions]
    kinks = any(kink in node.name() for node in seen for kink in KINKS)
    return {"lipschitz_note": NOTE if kinks else None}
