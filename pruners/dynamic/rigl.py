"""RigL: periodically replace the smallest weights by the connections with the largest gradients.

The net is sparse from the first step (Evci et al., 2020, arXiv:1911.11134, Algorithm 1). At step t,
a multiple of the period before T_end, in each layer of K weights: n = floor(f K) with f = alpha / 2
(1 + cos(pi t / T_end)). The n active weights of smallest magnitude are removed. Then the n inactive
positions with the largest |dL/dw| of the current batch are added. The update replaces the
optimizer's step.

Choices and deviations (docs/methods/rigl.md; docs/decisions.md 29):
- A removed position may be added again at once, and then keeps its value and momentum: Algorithm
  1's sets can be read both ways, and the authors' code allows it. Other new connections begin at
  zero, without momentum. Removed ones leave no momentum behind either.
- No noise on the scores for removal. The authors' code adds N(0, 1e-5) to all positions, and can
  then keep an inactive one. Ties go by index.
- The first update is at step 0, as the authors' code counts, on the gradients of the initial net;
  the paper's text does not specify it.
- Gradients are those of one batch, averaged over all processes. Exact counts: the layers keep the
  counts of `allocate`.
- The classifier stays dense (`method.pruner`), as in the jackpots paper's tables; the authors
  rewire it too.
- Biases and BatchNorm parameters are not updated at these steps either, as in the authors' code,
  where no gradient is applied at all. Running statistics are updated.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pruners.base import (
    Finding,
    FixedMasking,
    Masks,
    Passes,
    Task,
    apply_masks,
    kept_by_layer,
)
from pruners.dynamic.rewire import (
    Decay,
    UpdateSchedule,
    count_up,
    decayed,
    refused_shares,
    reset_momentum,
    weakest,
)
from pruners.selection.ranks import largest


@dataclass
class RigLMasking:
    """Masks that change every `period` steps, before step `last`."""

    masks: Masks
    period: int
    last: float
    drop_fraction: float
    decay: str
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"updates": 0, "rewired": 0})

    def fraction(self, step: int) -> float:
        """Share of a layer's connections that an update at this step removes."""
        return decayed(self.drop_fraction, self.decay, step, self.last)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: nothing is replaced.

        Pruned weights are zeros, so that their gradients are those of the dense net.
        """
        return {}

    def updates(self, step: int) -> bool:
        """Whether an update replaces this step."""
        return step % self.period == 0 and step < self.last

    def passes(self, step: int) -> Passes:
        """`pruners.base.StatesPasses`: an update needs the gradients of all weights."""
        return Passes(kept=2, full=1) if self.updates(step) else Passes()

    @torch.no_grad()
    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Rewire at update steps; at other steps, clear the gradients of pruned weights.

        An update removes all gradients, so that the optimizer changes nothing.
        """
        if not self.updates(step):
            FixedMasking(self.masks).before_step(model, opt, step)
            return
        fraction, before = self.fraction(step), self.masks
        active = kept_by_layer(before)
        self.masks = {
            name: rewired(*_values(model, name), mask, math.floor(fraction * active[name]))
            for name, mask in before.items()
        }
        apply_masks(model, self.masks)
        reset_momentum(model, opt, {name: mask ^ before[name] for name, mask in self.masks.items()})
        for parameter in model.parameters():
            parameter.grad = None
        count_up(self.report, before, self.masks)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Keep pruned weights at zero."""
        apply_masks(model, self.masks)


def rewired(weights: Tensor, gradients: Tensor, mask: Tensor, n: int) -> Tensor:
    """The layer's next mask: its n smallest weights are replaced by n new positions.

    The new positions are those of largest gradient among all that are inactive after the removal.
    """
    kept = mask & ~weakest(weights, mask, n)
    # A diverging training continues, and its record reports it.
    strength = torch.nan_to_num(gradients.abs(), nan=0.0)
    return kept | largest(strength.masked_fill(kept, -torch.inf).flatten(), n).view(mask.shape)


def _values(model: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """A parameter and its gradient, which is zero if the loss does not depend on it."""
    parameter = model.get_parameter(name)
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return parameter.detach(), gradient


@dataclass(frozen=True)
class RigL:
    """Rewiring by weights and gradients, from the masks of an earlier stage.

    Args:
        rhythm: Default 100 iterations, until 75 % of the steps: the paper's (docs/decisions.md 29).
        drop_fraction: alpha, the share of a layer's connections at step 0. Default 0.3: the
            paper's.
        decay: of that share: `cosine` to zero at the last update (the paper's), or `constant` (the
            authors' command line).
    """

    tag: ClassVar[str] = "rigl"
    rhythm: UpdateSchedule
    drop_fraction: float = 0.3
    decay: Decay = "cosine"

    def __post_init__(self) -> None:
        problems = refused_shares(self.drop_fraction, self.decay)
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> RigLMasking:
        """A masking that starts from `masks` and keeps the count of each layer.

        The model is not changed.

        Raises:
            ValueError: the task does not train.
        """
        return RigLMasking(
            dict(masks),
            self.rhythm.steps(task),
            self.rhythm.stop * task.steps,
            self.drop_fraction,
            self.decay,
        )
