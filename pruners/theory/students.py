"""Outputs, losses and gradients of many students with one hidden layer.

"Why Lottery Ticket Wins?" (Zhang et al.), Eq. 2:

    f(W) = 1/(2N) sum_n ((1/K) sum_j relu(w_j . x_n) - y_n)^2
    df/dw_j = 1/(N K) sum_n e_n 1[w_j . x_n > 0] x_n,    masked

Shapes: T trials, N examples, d inputs, K neurons. Weights are (T, K, d) with zeros outside their
masks: the transpose of the paper's augmented matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Problems(Protocol):
    """Regressions to solve, as `dataset=gaussian_teacher` draws them."""

    @property
    def inputs(self) -> Tensor: ...  # (T, N, d)
    @property
    def targets(self) -> Tensor: ...  # (T, N)
    @property
    def weights(self) -> Tensor: ...  # (T, K, d), the teacher's
    @property
    def masks(self) -> Tensor: ...  # (T, K, d), bool, the students'
    @property
    def energy(self) -> Tensor: ...  # (T,), root of the mean square of the noiseless targets


class Teacher(Protocol):
    """The data set of a theory experiment."""

    @property
    def dimension(self) -> int: ...
    @property
    def neurons(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def seen(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def noise(self) -> float: ...
    def draw(self, seeds: Sequence[int]) -> Problems: ...


def check_teacher(teacher: object) -> None:
    """Reject a data set that draws no problems.

    Raises:
        ValueError: the data set has no teacher.
    """
    if not hasattr(teacher, "draw"):
        name = getattr(teacher, "name", teacher)
        raise ValueError(
            f"dataset={name} has no teacher:"
            " a theory experiment takes dataset=gaussian_teacher model=student"
        )


@dataclass(frozen=True, eq=False)
class Regression:
    """The solver's input for several problems, on the solver's device."""

    inputs: Tensor  # (T, N, d)
    targets: Tensor  # (T, N)
    masks: Tensor  # (T, K, d), bool


def outputs(inputs: Tensor, weights: Tensor) -> Tensor:
    """Mean over the neurons, not their sum: (T, N) from inputs (T, N, d), weights (T, K, d)."""
    return torch.bmm(weights, inputs.mT).clamp(min=0).mean(1)


def losses(problem: Regression, weights: Tensor) -> Tensor:
    """f(W) of each trial, (T,)."""
    return (outputs(problem.inputs, weights) - problem.targets).square().mean(1) / 2


def gradients(problem: Regression, weights: Tensor) -> Tensor:
    """df/dW of each trial, (T, K, d), zero outside the masks."""
    before = torch.bmm(weights, problem.inputs.mT)  # (T, K, N)
    errors = before.clamp(min=0).mean(1) - problem.targets  # (T, N)
    examples, neurons = problem.targets.shape[1], weights.shape[1]
    total = torch.bmm((before > 0) * errors[:, None], problem.inputs) * problem.masks
    return total / (examples * neurons)


def distances(weights: Tensor, truth: Tensor) -> Tensor:
    """||W - W*||_F / ||W*||_F of each trial, (T,)."""
    relative: Tensor = (weights - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return relative
