"""GMP, gradual magnitude pruning: small weights are pruned step by step while the net trains.

The net begins dense (Zhu & Gupta, 2017, arXiv:1710.01878, Eq. 1). With the density d = 1 - s, the
paper's equation for the sparsity s reads the same: after t steps, t = t0, t0 + D, ..., t0 + n D,

    d_t = d_f + (d_i - d_f) (1 - (t - t0) / (n D))^3,

and the smallest weights are pruned down to d_t. The density falls fast at first, while there are
many redundant weights, and slowly at the end.

Choices and deviations (docs/methods/gmp.md):
- A pruned weight stays pruned, and has neither gradient nor momentum. In the authors' code it keeps
  its last value under the mask and may return.
- n is the number of whole periods from `begin` to `stop`. If not even one fits, there is one update
  at the end of that time. The last update comes before the last step.
- Every layer has the same density, as in the paper (allocate=layer). The total is exact at every
  update (docs/decisions.md 4).
"""

import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pruners.base import Finding, FixedMasking, Masks, Task, apply_masks
from pruners.dynamic.rewire import UpdateSchedule, no_change, reset_momentum
from pruners.selection.score_pruner import ScorePruner

Prune = Callable[[nn.Module, Masks, float], Masks]  # to a density, inside the masks


@dataclass(frozen=True)
class Descent:
    """The densities of Eq. 1 and the steps after which they are reached.

    Args:
        begin: t0, in steps.
        period: the paper's Delta t, in steps.
        updates: n.
        initial, final: d_i and d_f.
    """

    begin: int
    period: int
    updates: int
    initial: float
    final: float

    def density(self, done: int) -> float | None:
        """d_t after `done` steps, or None if no update follows these."""
        number, rest = divmod(done - self.begin, self.period)
        if rest or not 0 <= number <= self.updates:
            return None
        return self.final + (self.initial - self.final) * (1 - number / self.updates) ** 3


@dataclass
class GmpMasking:
    """Masks that shrink after the steps of a `Descent`.

    `changed` marks positions whose momentum is to be reset.
    """

    masks: Masks
    changed: Masks
    descent: InitVar[Descent]
    prune: InitVar[Prune]
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"updates": 0})

    def __post_init__(self, descent: Descent, prune: Prune) -> None:
        self._descent, self._prune = descent, prune  # not fields, because they are not state

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: pruned weights are zeros, so nothing is replaced."""
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear gradients of pruned weights, and momentum of those that were pruned last."""
        FixedMasking(self.masks).before_step(model, opt, step)
        reset_momentum(model, opt, self.changed)
        self.changed = no_change(self.masks)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Keep pruned weights at zero; at an update, prune."""
        apply_masks(model, self.masks)
        self.update(model, step + 1)

    @torch.no_grad()
    def update(self, model: nn.Module, done: int) -> None:
        """Prune if an update follows after `done` steps."""
        density = self._descent.density(done)
        if density is None:
            return
        before = self.masks
        self.masks = self._prune(model, before, density)
        self.changed = {name: mask & ~self.masks[name] for name, mask in before.items()}
        self.report["updates"] = int(self.report["updates"] or 0) + 1


@dataclass(frozen=True)
class GradualPruning:
    """Pruning during the training, from the masks with which it starts.

    Args:
        rhythm: Default every 100 iterations (the paper: 100 to 1,000 made no difference), until
            half of the steps (ours): the learning rate is high until then, which the paper
            recommends.
        pruner: prunes to a density, once; for the rules of layers, score and counts.
        initial: d_i, the density of the first update. Default 1: the paper's s_i = 0.
        begin: share of the steps after which the first update follows. Default 0: ours.
    """

    tag: ClassVar[str] = "gmp"
    rhythm: UpdateSchedule
    pruner: ScorePruner
    initial: float = 1.0
    begin: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.initial <= 1:
            problems.append(
                f"method.gradual.initial={self.initial:g} must be in (0, 1]: the density of the"
                " first update, 1 for a dense start"
            )
        if not 0 <= self.begin < self.rhythm.stop:
            problems.append(
                f"method.gradual.begin={self.begin:g} must be in [0, 1) and below"
                f" method.rhythm.stop={self.rhythm.stop:g}: shares of the training between which it"
                " prunes"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """`pruners.base.Budgeted.check_budget`."""
        if density > self.initial:
            raise ValueError(
                f"density={density:g} is above method.gradual.initial={self.initial:g}, but masks"
                " only shrink: take a lower density or a larger initial one"
            )
        self.pruner.check_budget(model, masks, density)

    @property
    def exact(self) -> bool:
        """Whether the density is reached to the weight (pruners.base.Approximate)."""
        return self.pruner.exact

    def descent(self, task: Task) -> Descent:
        """The updates of a training.

        Raises:
            ValueError: the task does not train, or there is no density.
        """
        if task.density is None:
            raise ValueError("density is missing: gradual pruning ends at the one that you give")
        period = self.rhythm.steps(task)
        begin = math.floor(self.begin * task.steps)
        # A step follows the last update, except in a training of one step.
        last = min(math.floor(self.rhythm.stop * task.steps), task.steps - 1)
        room = max(0, last - begin)
        period, begin = max(1, min(period, room)), min(begin, last)
        return Descent(begin, period, max(1, room // period), self.initial, task.density)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> GmpMasking:
        """A masking that begins with `masks` of the layers to prune.

        Raises:
            ValueError: the task does not train, there is no density, or no layer to prune.
        """

        def prune(model: nn.Module, masks: Masks, density: float) -> Masks:
            return self.pruner(model, masks, replace(task, density=density)).masks

        start = self.pruner.pruned(model, masks)
        masking = GmpMasking(start, no_change(start), self.descent(task), prune)
        masking.update(model, 0)
        return masking
