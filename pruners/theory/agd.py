"""Accelerated gradient descent for many students at once.

Algorithm 1 of "Why Lottery Ticket Wins?" (Zhang et al.):

    W(t+1) = W(t) - eta * df(W(t)) + beta * (W(t) - W(t-1)),    W(-1) = W(0)

This is heavy ball: the gradient is taken at W(t). beta = 0 gives gradient descent. Two choices
follow the paper's experiments (Sec. 5), not its theorem: every step uses all data, and a trial ends
when ||W(t+1) - W(t)||_F < tolerance * ||W(t)||_F, or after `steps`.

Two optimisations change a trial's numbers only by rounding: inputs that no neuron of a student
receives are left out, and trials that have ended are removed from the batch. A trial whose weights
have grown by a factor of `GROWTH` has diverged and ends.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pruners.theory.students import Regression, distances

GROWTH = 1e6
BLOCK = 50  # steps between two checks for ended trials; on a GPU each check synchronises


@dataclass(frozen=True, eq=False)
class Solution:
    """Final state of the trials."""

    weights: Tensor  # (T, K, d)
    steps: Tensor  # (T,), int64
    settled: Tensor  # (T,), bool: ended by the tolerance
    diverged: Tensor  # (T,), bool
    # (T, 1 + looks): distance to the truth at steps 0, trace, 2 trace, ...; constant after a trial
    # has ended; empty without trace
    trace: Tensor


@dataclass(frozen=True)
class Agd:
    """Accelerated gradient descent with momentum.

    Args:
        eta: step size. Default 2, stable for K = 5 and above (docs/decisions.md 31; the theory's
            K/14 and Fig. 3's 0.5 are slower).
        beta: momentum. Default 0.9 (docs/decisions.md 31); Fig. 3 has 0.2.
        steps: maximum number of steps. Default 10,000: the paper's.
        tolerance: relative size of a step that ends a trial. Default 1e-8: the paper's; it requires
            float64.
    """

    tag: ClassVar[str] = "agd"
    eta: float = 2.0
    beta: float = 0.9
    steps: int = 10_000
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        problems = [
            f"method.solver.{key}={getattr(self, key):g} must be {what}"
            for key, ok, what in (
                ("eta", self.eta > 0, "positive: the step size"),
                ("beta", 0 <= self.beta < 1, "in [0, 1): the momentum; 0 is gradient descent"),
                ("steps", self.steps >= 1, "at least 1"),
                (
                    "tolerance",
                    self.tolerance >= 0,
                    "0 or more: the relative size of a step that ends a trial",
                ),
            )
            if not ok
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(
        self, problem: Regression, start: Tensor, truth: Tensor | None = None, trace: int = 0
    ) -> Solution:
        """Solve every trial from `start` (T, K, d).

        Args:
            truth: the teacher's weights (T, K, d), needed for a trace.
            trace: steps between two entries of the trace; 0 = no trace.
        """
        seen, columns = narrowed(problem)
        target = None if truth is None else truth.gather(2, columns)
        walk = _Walk(self, seen, start.gather(2, columns), trace, target)
        block = trace or BLOCK
        for first in range(0, self.steps, block):
            for _ in range(min(block, self.steps - first)):
                walk.step()
            if not walk.look():
                break
        found = walk.solution()
        return replace(found, weights=torch.zeros_like(start).scatter_(2, columns, found.weights))


def narrowed(problem: Regression) -> tuple[Regression, Tensor]:
    """Remove the inputs that no neuron receives; return the problem and the remaining columns.

    The columns are (T, K, width), for gather and scatter along the inputs of weights.
    """
    used = problem.masks.any(1)  # (T, d)
    width = int(used.sum(1).max())
    # (T, width); trials that use fewer inputs are filled up with unused ones
    left = used.int().sort(dim=1, descending=True, stable=True).indices[:, :width]
    columns = left[:, None].expand(-1, problem.masks.shape[1], -1)
    if width == used.shape[1]:
        left = torch.arange(width, device=used.device).expand_as(used)
        return problem, left[:, None].expand_as(columns)
    inputs = problem.inputs.gather(2, left[:, None].expand(-1, problem.inputs.shape[1], -1))
    return Regression(inputs, problem.targets, problem.masks.gather(2, columns)), columns


class _Walk:
    """State of the trials that still run, and results of those that have ended."""

    def __init__(
        self, solver: Agd, problem: Regression, start: Tensor, trace: int, truth: Tensor | None
    ) -> None:
        trials, neurons, _ = start.shape
        self.solver, self.problem, self.truth = solver, problem, truth if trace else None
        self.weights, self.moved = start.clone(), torch.zeros_like(start)
        eta = solver.eta / (problem.targets.shape[1] * neurons)
        self.scale = problem.masks.to(start.dtype) * eta
        self.index = torch.arange(trials, device=start.device)
        self.limit = GROWTH * start.flatten(1).norm(dim=1)
        self.alive = torch.ones_like(self.limit)  # 1.0: runs, 0.0: has ended
        self.taken = torch.zeros_like(self.limit)
        self.ends = (
            start.clone(),
            torch.zeros_like(self.index),
            torch.zeros_like(self.index, dtype=torch.bool),
            torch.zeros_like(self.index, dtype=torch.bool),
        )
        self.trace = [] if self.truth is None else [distances(start, self.truth)]
        self._make_room()

    def _make_room(self) -> None:
        """Allocate buffers for the current number of trials."""
        shape = (*self.weights.shape[:2], self.problem.targets.shape[1])
        self.before, self.signal = self.weights.new_empty(shape), self.weights.new_empty(shape)
        self.gradient = torch.empty_like(self.weights)

    def step(self) -> None:
        """Do one step of every running trial."""
        inputs, alive = self.problem.inputs, self.alive
        torch.bmm(self.weights, inputs.mT, out=self.before)
        # (A, N), A running trials
        errors = torch.clamp(self.before, min=0, out=self.signal).mean(1).sub_(self.problem.targets)
        torch.mul(self.before > 0, errors[:, None], out=self.signal)
        torch.bmm(self.signal, inputs, out=self.gradient)
        self.moved.mul_(self.solver.beta).addcmul_(self.gradient, self.scale, value=-1)
        self.moved.mul_(alive[:, None, None])
        size, length = (torch.linalg.vector_norm(t, dim=(1, 2)) for t in (self.weights, self.moved))
        self.weights.add_(self.moved)
        self.taken.add_(alive)
        alive.mul_((length >= self.solver.tolerance * size) & (size < self.limit))

    def look(self) -> bool:
        """Record the trace and remove ended trials; return whether any trial still runs."""
        if self.truth is not None:
            now = self.trace[-1].clone()
            now[self.index] = distances(self.weights, self.truth[self.index])
            self.trace.append(now)
        ended = self.alive == 0
        if not bool(ended.any()):
            return True
        self._leave(ended, by_tolerance=True)
        stay = ~ended
        for name in ("weights", "moved", "scale", "index", "limit", "alive", "taken"):
            setattr(self, name, getattr(self, name)[stay])
        old = self.problem
        self.problem = Regression(old.inputs[stay], old.targets[stay], old.masks[stay])
        self._make_room()
        return bool(stay.any())

    def _leave(self, which: Tensor, by_tolerance: bool) -> None:
        weights, steps, settled, diverged = self.ends
        gone = self.index[which]
        grown = self.weights[which].flatten(1).norm(dim=1) >= self.limit[which]
        weights[gone], steps[gone] = self.weights[which], self.taken[which].long()
        diverged[gone], settled[gone] = grown, ~grown & by_tolerance

    def solution(self) -> Solution:
        """Return the results of all trials, in their order."""
        self._leave(self.alive == 1, by_tolerance=False)
        self._leave(self.alive == 0, by_tolerance=True)
        empty = self.limit.new_empty((len(self.ends[1]), 0))
        return Solution(*self.ends, torch.stack(self.trace, 1) if self.trace else empty)
