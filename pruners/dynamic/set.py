"""SET, sparse evolutionary training: after every epoch, replace the weakest connections at random.

The net is sparse from the first step (Mocanu et al., 2018, arXiv:1707.04780, Algorithm 1). In each
layer, a share zeta of the positive weights, those closest to zero, is removed, and the same share
of the negative ones. As many connections are added, uniformly at random among all positions that
are then inactive. Layers never exchange connections.

Choices and deviations (docs/methods/set.md; docs/decisions.md 29: the authors' settings):
- New weights are 0, as in the authors' mask-based code; N(0, 0.1^2) in their sparse one:
  `grow_std`.
- Removed positions may be added again at once (at zero), as in the authors' code: `allow_regrow`.
- Momentum of removed and new connections is cleared. The authors' code rebuilds its optimizer every
  epoch, which clears all momentum.
- No update follows the last step. An active weight of exactly zero counts as positive, so it is
  removed first. A full layer has no other positions and is left unchanged.
- The start has exact counts from `allocate`: by default the same density in every layer. The
  authors draw every entry independently, with densities after Erdos-Renyi on their nets of linear
  layers (allocate=erk).
- The classifier stays dense (`method.pruner`), like the authors' output layer and the jackpots
  paper's.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import Finding, FixedMasking, Masks, Task, apply_masks
from pruners.dynamic.rewire import (
    UpdateSchedule,
    count_up,
    grow,
    no_change,
    reset_momentum,
    weakest,
)


@dataclass
class SetMasking:
    """Masks that change after every `period` steps, before `last` steps are done.

    `changed` marks positions whose momentum is to be reset.
    """

    masks: Masks
    changed: Masks
    rng: Generator
    period: int
    last: float
    drop_fraction: float
    per_sign: bool
    grow_std: float
    allow_regrow: bool
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"updates": 0, "rewired": 0})

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: pruned weights are zeros, so nothing is replaced."""
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear gradients of pruned weights, and momentum where the last update made a change."""
        FixedMasking(self.masks).before_step(model, opt, step)
        reset_momentum(model, opt, self.changed)
        self.changed = no_change(self.masks)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Keep pruned weights at zero; at the end of a period, rewire."""
        apply_masks(model, self.masks)
        done = step + 1
        if done % self.period or done >= self.last:
            return
        before = self.masks
        self.masks = {}
        for name, mask in before.items():
            weight = model.get_parameter(name)
            gone = dropped(weight, mask, self.drop_fraction, self.per_sign, self.allow_regrow)
            kept = mask & ~gone
            grown = grow(~kept if self.allow_regrow else ~mask, int(gone.sum()), self.rng)
            weight.masked_fill_(grown, 0.0)  # a connection that is added again starts at zero
            if self.grow_std:
                noise = torch.randn(int(grown.sum()), generator=self.rng)
                weight[grown] = self.grow_std * noise.to(weight)
            self.masks[name] = kept | grown
            self.changed[name] = gone | grown
        apply_masks(model, self.masks)
        count_up(self.report, before, self.masks)


def dropped(
    weights: Tensor, mask: Tensor, fraction: float, per_sign: bool, allow_regrow: bool = True
) -> Tensor:
    """The active weights of a layer to remove: bool of its shape.

    Args:
        per_sign: remove floor(fraction * n) of the n positive weights and of the n negative ones;
            False: of all weights.
        allow_regrow: False: remove at most as many as there are positions outside `mask`.
    """
    room = int((~mask).sum())
    gone = torch.zeros_like(mask)
    if not room:
        return gone
    for part in (mask & ~(weights < 0), mask & (weights < 0)) if per_sign else (mask,):
        k = math.floor(fraction * int(part.sum()) + 1e-9)  # 0.29 * 100 is 28.999999999999996
        gone |= weakest(weights, part, k if allow_regrow else min(k, room - int(gone.sum())))
    return gone


@dataclass(frozen=True)
class SparseEvolution:
    """Random rewiring after every period, from the masks of an earlier stage.

    Args:
        rhythm: Default every epoch, until the end: the authors'.
        drop_fraction: zeta, the share of a layer's connections. Default 0.3: the authors'. Intel's
            code has 0.07 to 0.14 every few hundred iterations.
        per_sign: remove that share of the positive and of the negative weights each, the authors'
            rule; False: of the smallest in magnitude, as all others do.
        grow_std: standard deviation of new weights. Default 0.
        allow_regrow: whether a removed position may be added again at once.
    """

    tag: ClassVar[str] = "set"
    rhythm: UpdateSchedule
    drop_fraction: float = 0.3
    per_sign: bool = True
    grow_std: float = 0.0
    allow_regrow: bool = True

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.drop_fraction <= 1:
            problems.append(
                f"method.rewire.drop_fraction={self.drop_fraction:g} must be in [0, 1]: a share of"
                " each layer's connections"
            )
        if self.grow_std < 0:
            problems.append(
                f"method.rewire.grow_std={self.grow_std:g} must be 0 or more: the standard"
                " deviation of new weights"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> SetMasking:
        """A masking that starts from `masks` and keeps the count of each layer.

        The model is not changed.

        Raises:
            ValueError: the task does not train.
        """
        return SetMasking(
            masks=dict(masks),
            changed=no_change(masks),
            rng=task.rng,
            period=self.rhythm.steps(task),
            last=self.rhythm.stop * task.steps,
            drop_fraction=self.drop_fraction,
            per_sign=self.per_sign,
            grow_std=self.grow_std,
            allow_regrow=self.allow_regrow,
        )
