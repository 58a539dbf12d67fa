"""Accelerated gradient descent, Algorithm 1 of "Why Lottery Ticket Wins?" (Zhang et al.), for many students at once.

    W(t+1) = W(t) - eta * df(W(t)) + beta * (W(t) - W(t-1)),    W(-1) = W(0)

Heavy ball: the gradient is that at W(t); beta = 0 is gradient descent. As in the paper's experiments (Sec. 5), not in its theorem: every step sees all data; a
trial ends when ||W(t+1) - W(t)||_F < tolerance * ||W(t)||_F, or after `steps`.

Two things that change no trial's numbers, up to rounding: inputs that no neuron of a student sees are left out, and trials that have ended leave the batch. A
trial whose weights have grown by `GROWTH` has diverged and ends.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pruners.theory.students import Regression, distances

GROWTH = 1e6
BLOCK = 50  # steps between two looks at who has ended: on a GPU each look waits for it


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the trials have ended."""

    weights: Tensor  # (T, K, d)
    steps: Tensor  # (T,), int64
    settled: Tensor  # (T,), bool: ended by the tolerance
    diverged: Tensor  # (T,), bool
    trace: Tensor  # (T, 1 + looks): distance to the truth at steps 0, trace, 2 trace, ...; a trial that has ended stays where it is; empty without trace


@dataclass(frozen=True)
class Agd:
    """The solver.

    Args:
        eta: step size. Default 2, stable for K = 5 and above (decisions.md 31; the theory's K/14 and Fig. 3's 0.5 are slower).
        beta: momentum. Default 0.9 (decisions.md 31); Fig. 3 has 0.2.
        steps: most steps. Default 10,000: the paper's.
        tolerance: relative size of a step that ends a trial. Default 1e-8: the paper's; it needs float64.
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
                ("tolerance", self.tolerance >= 0, "0 or more: the relative size of a step that ends a trial"),
            )
            if not ok
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, problem: Regression, start: Tensor, truth: Tensor | None = None, trace: int = 0) -> Solution:
        """Solve every trial from `start` (T, K, d).

        Args:
            truth: the teacher's weights, for a trace.
            trace: steps between two of its entries; 0 = none.
        """
        seen, columns = narrowed(problem)
        walk = _Walk(self, seen, start.gather(2, columns), trace, None if truth is None else truth.gather(2, columns))
        block = trace or BLOCK
        for first in range(0, self.steps, block):
            for _ in range(min(block, self.steps - first)):
                walk.step()
            if not walk.look():
                break
        found = walk.solution()
        return replace(found, weights=torch.zeros_like(start).scatter_(2, columns, found.weights))


def narrowed(problem: Regression) -> tuple[Regression, Tensor]:
    """The problem without inputs that no neuron sees, and which are left: (T, K, width), for gather and scatter along the inputs of weights."""
    used = problem.masks.any(1)  # (T, d)
    width = int(used.sum(1).max())
    left = used.int().sort(dim=1, descending=True, stable=True).indices[:, :width]  # (T, width); in trials that see fewer, unseen ones fill up
    columns = left[:, None].expand(-1, problem.masks.shape[1], -1)
    if width == used.shape[1]:
        left = torch.arange(width, device=used.device).expand_as(used)
        return problem, left[:, None].expand_as(columns)
    inputs = problem.inputs.gather(2, left[:, None].expand(-1, problem.inputs.shape[1], -1))
    return Regression(inputs, problem.targets, problem.masks.gather(2, columns)), columns


class _Walk:
    """The trials that still move, and what those have left behind that have ended."""

    def __init__(self, solver: Agd, problem: Regression, start: Tensor, trace: int, truth: Tensor | None) -> None:
        trials, neurons, _ = start.shape
        self.solver, self.problem, self.truth = solver, problem, truth if trace else None
        self.weights, self.moved = start.clone(), torch.zeros_like(start)
        self.scale = problem.masks.to(start.dtype) * (solver.eta / (problem.targets.shape[1] * neurons))
        self.index = torch.arange(trials, device=start.device)
        self.limit = GROWTH * start.flatten(1).norm(dim=1)
        self.alive = torch.ones_like(self.limit)  # 1.0 moves, 0.0 has ended
        self.taken = torch.zeros_like(self.limit)
        self.ends = start.clone(), torch.zeros_like(self.index), torch.zeros_like(self.index, dtype=torch.bool), torch.zeros_like(self.index, dtype=torch.bool)
        self.trace = [] if self.truth is None else [distances(start, self.truth)]
        self._make_room()

    def _make_room(self) -> None:
        """Buffers of this many trials."""
        shape = (*self.weights.shape[:2], self.problem.targets.shape[1])
        self.before, self.signal = self.weights.new_empty(shape), self.weights.new_empty(shape)
        self.gradient = torch.empty_like(self.weights)

    def step(self) -> None:
        """One step of every trial that moves."""
        inputs, alive = self.problem.inputs, self.alive
        torch.bmm(self.weights, inputs.mT, out=self.before)
        errors = torch.clamp(self.before, min=0, out=self.signal).mean(1).sub_(self.problem.targets)  # (A, N)
        torch.mul(self.before > 0, errors[:, None], out=self.signal)
        torch.bmm(self.signal, inputs, out=self.gradient)
        self.moved.mul_(self.solver.beta).addcmul_(self.gradient, self.scale, value=-1).mul_(alive[:, None, None])
        size, length = (torch.linalg.vector_norm(t, dim=(1, 2)) for t in (self.weights, self.moved))
        self.weights.add_(self.moved)
        self.taken.add_(alive)
        alive.mul_((length >= self.solver.tolerance * size) & (size < self.limit))

    def look(self) -> bool:
        """Note the trace, let go of trials that have ended; whether any still moves."""
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
        self.problem = Regression(*(t[stay] for t in (self.problem.inputs, self.problem.targets, self.problem.masks)))
        self._make_room()
        return bool(stay.any())

    def _leave(self, which: Tensor, by_tolerance: bool) -> None:
        weights, steps, settled, diverged = self.ends
        gone = self.index[which]
        grown = self.weights[which].flatten(1).norm(dim=1) >= self.limit[which]
        weights[gone], steps[gone], diverged[gone], settled[gone] = self.weights[which], self.taken[which].long(), grown, ~grown & by_tolerance

    def solution(self) -> Solution:
        """Of all trials, in their order."""
        self._leave(self.alive == 1, by_tolerance=False)
        self._leave(self.alive == 0, by_tolerance=True)
        trace = torch.stack(self.trace, 1) if self.trace else self.limit.new_empty((len(self.ends[1]), 0))
        return Solution(*self.ends, trace)
