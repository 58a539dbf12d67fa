"""SNFS, sparse momentum: layers and positions with large smoothed gradients get the connections.

The net is sparse from the first step ("Sparse Networks from Scratch", Dettmers & Zettlemoyer, 2019,
arXiv:1907.04840, Algorithm 1). M is the exponentially smoothed gradient of every weight, kept or
not. After every epoch, with the share p = p_0 / 2 (1 + cos(pi t / T)):

1. Layer l's part of the momentum is the mean of |M| over its connections, divided by the sum of
   these means over all layers.
2. In each layer the share p of its connections, those of smallest magnitude, is removed.
3. Of all that were removed, layer l gets its part back, at its missing positions of largest |M|.

Choices and deviations (docs/methods/snfs.md):
- M is separate from the optimizer's momentum, which covers connections only (as for every method).
  It has no weight decay. The authors read the optimizer's buffer, whose entries at missing weights
  they set to the layer's mean after each update; here M goes on.
- Counts are exact: shares are rounded by largest remainders (docs/decisions.md 4), and what a full
  layer cannot take goes to the others. The authors round up and correct the total later.
- The number removed is rounded down, so that a layer keeps at least one connection. The authors
  round up, and remove less from layers with a density above 0.8 and little momentum.
- A removed position may be added again at once, and then keeps its value and momentum, as in the
  authors' code. Other new connections begin at zero, without momentum.
- The share falls to zero; the authors' code ends at 0.005.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pruners.base import Finding, FixedMasking, Masks, Task, apply_masks, counts_by_layer
from pruners.dynamic.rewire import (
    Decay,
    UpdateSchedule,
    count_up,
    decayed,
    no_change,
    refused_shares,
    reset_momentum,
    weakest,
)
from pruners.selection.allocate import apportion
from pruners.selection.ranks import largest


@dataclass
class SparseMomentumMasking:
    """Masks that change after every `period` steps, before `last` steps are done.

    `smoothed` is M, by parameter name and of the parameter's shape. `changed` marks positions whose
    momentum is to be reset.
    """

    masks: Masks
    changed: Masks
    smoothed: dict[str, Tensor]
    period: int
    last: float
    drop_fraction: float
    decay: str
    smoothing: float
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"updates": 0, "rewired": 0})

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Return {}: nothing is replaced.

        Pruned weights are zeros, so that their gradients are those of the dense net.
        """
        return {}

    @torch.no_grad()
    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Add the gradients to M, then clear those of pruned weights.

        Also clear the optimizer's momentum where the last update made a change.
        """
        for name, smoothed in self.smoothed.items():
            gradient = model.get_parameter(name).grad
            smoothed.mul_(self.smoothing)
            if gradient is not None:
                smoothed.add_(gradient, alpha=1 - self.smoothing)
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
        share = decayed(self.drop_fraction, self.decay, done, self.last)
        (active,) = counts_by_layer(before)
        gone = {name: math.floor(share * count) for name, count in active.items()}
        # A diverging training continues, and its record reports it.
        strength = {name: torch.nan_to_num(m.abs(), nan=0.0) for name, m in self.smoothed.items()}
        left = {name: mask.numel() - active[name] + gone[name] for name, mask in before.items()}
        births = regrowth(mean_strength(strength, before, active), gone, left)
        self.masks = {}
        for name, mask in before.items():
            kept = mask & ~weakest(model.get_parameter(name).detach(), mask, gone[name])
            missing = strength[name].masked_fill(kept, -torch.inf)
            self.masks[name] = kept | largest(missing.flatten(), births[name]).view(mask.shape)
            self.changed[name] = self.masks[name] ^ mask
        apply_masks(model, self.masks)
        count_up(self.report, before, self.masks)


def mean_strength(
    strength: Mapping[str, Tensor], masks: Masks, active: Mapping[str, int]
) -> dict[str, float]:
    """Mean of |M| over the connections of each layer, by one copy to the host; 0 for no connection.

    Args:
        active: number of connections of each layer.
    """
    sums = [(strength[name] * mask).sum(dtype=torch.float64) for name, mask in masks.items()]
    totals = torch.stack(sums).tolist()
    return {name: total / max(active[name], 1) for name, total in zip(masks, totals, strict=True)}


def regrowth(
    means: Mapping[str, float], gone: Mapping[str, int], room: Mapping[str, int]
) -> dict[str, int]:
    """Number of new connections of each layer, as many in total as were removed.

    They are proportional to `means`, limited by the room in each layer. Layers without momentum get
    some only if the others are full, in proportion to their room.

    Args:
        means: >= 0, by layer.
        gone: removed connections.
        room: positions without a connection after the removal.
    """
    lost = sum(gone.values())
    weights = {name: Fraction(mean) for name, mean in means.items() if mean > 0}
    if sum(room[name] for name in weights) < lost:
        weights = {name: Fraction(places) for name, places in room.items()}
    whole = sum(weights.values(), start=Fraction(0))
    shares = {name: lost * weight / whole for name, weight in weights.items()} if lost else {}
    counts = apportion(shares, room, lost)
    return {name: counts.get(name, 0) for name in means}


@dataclass(frozen=True)
class SparseMomentum:
    """Rewiring across layers by smoothed gradients, from the masks of an earlier stage.

    Args:
        rhythm: Default every epoch, until the end: the authors'.
        drop_fraction: p_0, the share of a layer's connections. Default 0.5: the authors' code.
        decay: of that share: `cosine` to zero at the end (the authors'), or `constant`.
        smoothing: weight of the past in M. Default 0.9: the authors' momentum of SGD.
    """

    tag: ClassVar[str] = "snfs"
    rhythm: UpdateSchedule
    drop_fraction: float = 0.5
    decay: Decay = "cosine"
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        problems = refused_shares(self.drop_fraction, self.decay)
        if not 0 <= self.smoothing < 1:
            problems.append(
                f"method.rewire.smoothing={self.smoothing:g} must be in [0, 1): the weight of past"
                " gradients, 0 for those of the last batch alone"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> SparseMomentumMasking:
        """A masking that starts from `masks` and keeps their total count.

        The model is not changed.

        Raises:
            ValueError: the task does not train.
        """
        return SparseMomentumMasking(
            masks=dict(masks),
            changed=no_change(masks),
            smoothed={name: torch.zeros_like(model.get_parameter(name)) for name in masks},
            period=self.rhythm.steps(task),
            last=self.rhythm.stop * task.steps,
            drop_fraction=self.drop_fraction,
            decay=self.decay,
            smoothing=self.smoothing,
        )
