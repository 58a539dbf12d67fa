"""DSR, dynamic sparse reparameterization: random rewiring across layers, by one adaptive threshold.

The net is sparse from the first step (Mostafa & Wang, 2019, arXiv:1902.05967, Algorithm 1). After
every period, active weights with |w| < H are removed in all layers, k in total. For the next
update, H is doubled if k < 0.9 N_p and halved if k > 1.1 N_p. Then k connections are added: layer l
gets k R_l / sum R, where R_l is its number of remaining connections, at uniformly random positions
that had none before. Layers whose weights are large therefore grow at the expense of the others.

Choices and deviations (docs/methods/dsr.md):
- N_p is a share of the connections, or of all weights (`drop_of`). The authors give one number for
  a net at all densities, which is a share of its weights: 20,000 for WRN-28-2 (1.4 %), 400,000 for
  ResNet-50 (1.76 % of its 22.7 million sparse weights). At density 0.2 these are 7 % and 9 % of the
  connections, at 0.1 twice as much.
- The period is doubled at shares of the training (`doublings`): 12.5 %, 40 % and 70 % on CIFAR
  (epochs 25, 80 and 140 of 200), 25 %, 50 % and 75 % on ImageNet.
- Shares are rounded by largest remainders (docs/decisions.md 4); the authors give the rest to a
  random layer. Connections that a full layer cannot take go to the others.
- A layer keeps at least its largest weight, as in the authors' code. Positions just removed are
  used again only if the layers have too little other room.
- Momentum of removed and new connections is cleared. The authors' code keeps it, so that a new
  weight may start away from zero.
- On CIFAR the authors keep the first, the shortcut and the last layers dense; here only the last
  one stays dense (`method.pruner`).
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import (
    Finding,
    FixedMasking,
    Masks,
    Task,
    apply_masks,
    count_kept,
    kept_by_layer,
)
from pruners.dynamic.rewire import UpdateSchedule, count_up, grow, no_change, reset_momentum
from pruners.selection.allocate import apportion
from pruners.selection.ranks import largest

DropOf = Literal["connections", "weights"]
TOLERANCE = 0.1  # relative to N_p; within it, the threshold is kept


@dataclass
class DsrMasking:
    """Masks that change at the end of each period, before `last` steps are done.

    `changed` marks positions whose momentum is to be reset.
    """

    masks: Masks
    changed: Masks
    rng: Generator
    periods: list[int]  # one entry more than `doublings`
    doublings: list[float]  # steps after which the next period applies
    last: float
    goal: float  # N_p
    threshold: float
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

    def due(self, done: int) -> bool:
        """Whether an update follows after `done` steps."""
        period = self.periods[sum(done >= begin for begin in self.doublings)]
        return done < self.last and done % period == 0

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Keep pruned weights at zero; at the end of a period, rewire."""
        apply_masks(model, self.masks)
        if not self.due(step + 1):
            return
        before = self.masks
        gone = {
            name: below(model.get_parameter(name), mask, self.threshold)
            for name, mask in before.items()
        }
        kept = {name: mask & ~gone[name] for name, mask in before.items()}
        births = shares(before, kept)
        self.threshold = adapted(self.threshold, count_kept(gone), self.goal)
        grown = {
            name: grow(~mask, births[name], self.rng, reserve=gone[name])
            for name, mask in before.items()
        }
        self.masks = {name: kept[name] | grown[name] for name in before}
        self.changed = {name: gone[name] | grown[name] for name in before}
        for name, positions in self.changed.items():
            model.get_parameter(name).masked_fill_(positions, 0.0)
        count_up(self.report, before, self.masks)
        self.report["threshold"] = self.threshold


def below(weights: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Active weights of a layer that are smaller than the threshold: bool of its shape.

    If these are all its active weights, the largest one is left out.
    """
    gone = mask & (weights.abs() < threshold)
    if torch.equal(gone, mask) and gone.any():
        gone &= ~largest(weights.abs().masked_fill(~mask, -torch.inf).flatten(), 1).view(mask.shape)
    return gone


def adapted(threshold: float, gone: int, goal: float) -> float:
    """The next threshold, if this one has removed `gone` weights and the goal was `goal`."""
    if gone > (1 + TOLERANCE) * goal:
        return threshold / 2
    return 2 * threshold if gone < (1 - TOLERANCE) * goal else threshold


def shares(before: Masks, kept: Masks) -> dict[str, int]:
    """Number of new connections of each layer, as many in total as were removed.

    They are proportional to the layers' remaining connections, limited by the room in each layer.
    """
    lost = count_kept(before) - count_kept(kept)
    alive = {name: left for name, left in kept_by_layer(kept).items() if left}
    room = kept_by_layer({name: ~before[name] for name in alive})
    if sum(room.values()) < lost:
        room = kept_by_layer({name: ~kept[name] for name in alive})
    whole = sum(alive.values())
    fair = {name: Fraction(lost * left, whole) for name, left in alive.items()}
    counts = apportion(fair, room, lost)
    return {name: counts.get(name, 0) for name in before}


@dataclass(frozen=True)
class Dsr:
    """Rewiring across layers by an adaptive threshold, from the masks of an earlier stage.

    Args:
        rhythm: Default 100 iterations, later longer (`doublings`), until 95 % of the steps: the
            authors' on CIFAR.
        drop_fraction: N_p, as a share. Default 0.15 of the connections, near the authors' at
            density 0.1.
        threshold: H at the start. Default 1e-3: the authors'.
        drop_of: what `drop_fraction` is a share of: the `connections`, or all prunable `weights`,
            as the authors' number is, which does not depend on the density.
        doublings: shares of the training at which the period doubles. Default: the authors' on
            CIFAR.
    """

    tag: ClassVar[str] = "dsr"
    rhythm: UpdateSchedule
    drop_fraction: float = 0.15
    threshold: float = 1e-3
    drop_of: DropOf = "connections"
    doublings: tuple[float, ...] = (0.125, 0.4, 0.7)

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.drop_fraction <= 1:
            problems.append(
                f"method.rewire.drop_fraction={self.drop_fraction:g} must be in [0, 1]:"
                f" a share of all {self.drop_of}"
            )
        if self.drop_of not in get_args(DropOf):
            problems.append(
                f"method.rewire.drop_of={self.drop_of!r} must be one of"
                f" {', '.join(get_args(DropOf))}"
            )
        if list(self.doublings) != sorted(self.doublings) or not all(
            0 <= share <= 1 for share in self.doublings
        ):
            problems.append(
                f"method.rewire.doublings={list(self.doublings)} must ascend in [0, 1]: shares of"
                " the training at which the period doubles"
            )
        if self.threshold <= 0:
            problems.append(
                f"method.rewire.threshold={self.threshold:g} must be positive:"
                " it is only doubled and halved"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> DsrMasking:
        """A masking that starts from `masks` and keeps their total count.

        The model is not changed.

        Raises:
            ValueError: the task does not train; an update would remove more connections than there
                are.
        """
        active = count_kept(masks)
        whole = sum(mask.numel() for mask in masks.values())
        goal = self.drop_fraction * (whole if self.drop_of == "weights" else active)
        if goal > active:
            raise ValueError(
                f"method.rewire.drop_fraction={self.drop_fraction:g} of all {whole:,} prunable"
                f" weights is more than the {active:,} connections: take a smaller one, or"
                " method.rewire.drop_of=connections"
            )
        return DsrMasking(
            masks=dict(masks),
            changed=no_change(masks),
            rng=task.rng,
            periods=[self.rhythm.steps(task, 2**i) for i in range(len(self.doublings) + 1)],
            doublings=[share * task.steps for share in self.doublings],
            last=self.rhythm.stop * task.steps,
            goal=goal,
            threshold=self.threshold,
        )
