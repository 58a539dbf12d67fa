"""Test on a real net of a premise of Theorem 7.2: weights and Jacobian move little in training.

"Pruning at Initialization - A Sketching Perspective" (arXiv:2305.17559). The theorem adopts from
the theory of wide nets that the weights stay within O(1/sqrt(width)) of their start, and so does
the Jacobian J of the outputs. A mask found from J_0 and theta_0 (Eq. 2) is then nearly as good for
theta_t. Measured between the initial weights and those where the stage starts:

    moved       ||theta_t - theta_0|| / ||theta_0||
    jacobian    ||J_t - J_0||_F / ||J_0||_F
    first, best, uniform
                s E||J_t theta_t - J_t (theta_t . m)||^2 by Lemma 4.3, for masks found at the start,
                found at t, and drawn uniformly

The bound itself is not evaluated: its constants are those of the limit of infinite width. Only
weights (no biases) are masked; the rows of J belong to them.
"""

import copy
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from pruners.base import Masks, Measurement, Task


@dataclass(frozen=True)
class Premise:
    """Measure stage: change of weights and Jacobian since the start (`needs: [init]`).

    Args:
        examples: n, the examples whose outputs are differentiated.
        classes: differentiated outputs per example. Default 2: the Jacobian has examples x classes
            columns.
    """

    tag: ClassVar[str] = "premise"
    examples: int = 32
    classes: int = 2

    def __post_init__(self) -> None:
        if self.examples < 1 or self.classes < 1:
            raise ValueError(
                f"method.examples={self.examples} and method.classes={self.classes} must be at"
                " least 1"
            )

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Report `moved`, `jacobian`, `first_over_best` and `uniform_over_first`.

        The model is not changed.
        """
        (start,) = task.measured.values()
        x = next(iter(islice(task.batches(self.examples), 1)))[0]
        initial = {name: start.tensors[name].to(x.device) for name in masks}
        now = {name: model.get_parameter(name).detach() for name in masks}
        origin = copy.deepcopy(model)
        state = model.state_dict()
        first = {name: t for name, t in start.tensors.items() if name in state}
        origin.load_state_dict({**state, **first})
        j0, jt = self._jacobian(origin, initial, x), self._jacobian(model, now, x)  # (d, n classes)
        w0, w = (
            torch.cat([t.flatten() for t in tensors.values()]).double()
            for tensors in (initial, now)
        )
        at_start, best = error(jt, w, chances(j0, w0)), error(jt, w, chances(jt, w))
        uniform = error(jt, w, torch.full_like(w, 1 / len(w)))
        return Measurement(
            report={
                "moved": float((w - w0).norm() / w0.norm()),
                "jacobian": float((jt - j0).norm() / j0.norm()),
                "first_over_best": at_start / best,
                "uniform_over_first": uniform / at_start,
            }
        )

    def _jacobian(self, model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        """Jacobian of the first `classes` outputs of every example, (d, n classes), float64."""
        training = model.training
        model.eval()

        def outputs(some: dict[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(model, some, (x,))
            return logits[:, : self.classes].flatten()

        found = jacrev(outputs)(weights)
        model.train(training)
        return torch.cat([j.detach().flatten(1) for j in found.values()], 1).T.double()


def chances(jacobian: Tensor, w: Tensor) -> Tensor:
    """Drawing probabilities of the weights (Eq. 2)."""
    score: Tensor = jacobian.norm(dim=1) * w.abs()
    return score / score.sum()


def error(jacobian: Tensor, w: Tensor, p: Tensor) -> float:
    """s times the mean error of Algorithm 1 (Lemma 4.3).

    It is infinite if a weight that contributes is never drawn.
    """
    terms = (jacobian.norm(dim=1) * w).square()
    return float((terms[terms > 0] / p[terms > 0]).sum() - (jacobian.T @ w).square().sum())
