"""DSR, dynamic sparse reparameterization: sparse from the first step; weights below one threshold give way to random connections, and layers whose weights are
large gain at the cost of the others (Mostafa & Wang, 2019, arXiv:1902.05967, Algorithm 1).

After every period: in all layers active weights with |w| < H go, k in all; H is doubled when k < 0.9 N_p and halved when k > 1.1 N_p, for the next time; k
connections come, layer l getting k R_l / sum R with R_l its connections that are left, uniformly at random where there was none before.

Choices and deviations (methods/dsr.md):
- N_p is a share of all connections (`drop_fraction`): the authors give numbers for each net, 400,000 for ResNet-50, 20,000 for WRN-28-2, which is 14 % of them
  at density 0.1 and 7 % at 0.2.
- The period is doubled at 12.5 %, 40 % and 70 % of the steps: their CIFAR schedule (epochs 25, 80 and 140 of 200).
- Shares are rounded by largest remainders (decisions.md 4), where the authors leave the rest to a random layer. What a full layer cannot take goes to the
  others.
- A layer keeps at least its largest weight, as in the authors' code. Only when no layer has room left do connections come back where they just went.
- Momentum of what goes and what comes is cleared; the authors' code leaves it, so that a new weight may start away from zero.
- Of the layers that the authors keep dense on CIFAR, first, shortcut and last, only the last one stays so here (`method.pruner`).
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import Finding, FixedMasking, Masks, Task, apply_masks, count_kept, largest
from pruners.dynamic.rewire import UpdateSchedule, count_up, grow, no_change, reset_momentum
from pruners.selection.allocate import apportion

DOUBLINGS = (0.125, 0.4, 0.7)  # shares of the training from which on the period is twice as long
TOLERANCE = 0.1  # of N_p, within which the threshold stays


@dataclass
class DsrMasking:
    """Masks that change after every `periods` steps, before `last` steps are done. the momentum of `changed` is yet to be reset."""

    masks: Masks
    changed: Masks
    rng: Generator
    periods: list[int]  # one longer than `doublings`
    doublings: list[float]  # steps after which the next period counts
    last: float
    drop_fraction: float
    threshold: float
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=lambda: {"updates": 0, "rewired": 0})

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Nothing to replace: pruned weights are zeros."""
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        """Clear the gradients of pruned weights, and momentum where the last update changed something."""
        FixedMasking(self.masks).before_step(model, opt, step)
        reset_momentum(model, opt, self.changed)
        self.changed = no_change(self.masks)

    def due(self, done: int) -> bool:
        """Whether an update follows after `done` steps."""
        period = self.periods[sum(done >= begin for begin in self.doublings)]
        return done < self.last and done % period == 0

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Pruned weights stay zeros; at the end of a period, an update."""
        apply_masks(model, self.masks)
        if not self.due(step + 1):
            return
        before = self.masks
        gone = {name: below(model.get_parameter(name), mask, self.threshold) for name, mask in before.items()}
        kept = {name: mask & ~gone[name] for name, mask in before.items()}
        births = shares(before, kept)
        self.threshold = adapted(self.threshold, count_kept(gone), self.drop_fraction * count_kept(before))
        grown = {name: grow(~mask, births[name], self.rng, reserve=gone[name]) for name, mask in before.items()}
        self.masks = {name: kept[name] | grown[name] for name in before}
        self.changed = {name: gone[name] | grown[name] for name in before}
        for name, positions in self.changed.items():
            model.get_parameter(name).masked_fill_(positions, 0.0)
        count_up(self.report, before, self.masks)
        self.report["threshold"] = self.threshold


def below(weights: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """The active weights of a layer that are smaller than the threshold, but for the largest one when that is all of them: bool of its shape."""
    gone = mask & (weights.abs() < threshold)
    if torch.equal(gone, mask) and gone.any():
        gone &= ~largest(weights.abs().masked_fill(~mask, -torch.inf).flatten(), 1).view(mask.shape)
    return gone


def adapted(threshold: float, gone: int, goal: float) -> float:
    """The next threshold, after this one has dropped `gone` weights where `goal` were wanted."""
    if gone > (1 + TOLERANCE) * goal:
        return threshold / 2
    return 2 * threshold if gone < (1 - TOLERANCE) * goal else threshold


def shares(before: Masks, kept: Masks) -> dict[str, int]:
    """How many connections each layer gets, as many in all as have gone: in proportion to what is left of it, as far as it has room."""
    lost = count_kept(before) - count_kept(kept)
    alive = {name: int(mask.sum()) for name, mask in kept.items() if mask.any()}
    room = {name: int((~before[name]).sum()) for name in alive}
    if sum(room.values()) < lost:
        room = {name: int((~kept[name]).sum()) for name in alive}
    whole = sum(alive.values())
    counts = apportion({name: Fraction(lost * left, whole) for name, left in alive.items()}, room, lost)
    return {name: counts.get(name, 0) for name in before}


@dataclass(frozen=True)
class Dsr:
    """Rewiring across layers by an adaptive threshold, from the masks of an earlier stage.

    Args:
        rhythm: Default 100 iterations, longer later on (DOUBLINGS), until 95 % of the steps: the authors' on CIFAR.
        drop_fraction: N_p, as a share of all connections. Default 0.15, near the authors' at density 0.1.
        threshold: H at the start. Default 1e-3: the authors'.
    """

    tag: ClassVar[str] = "dsr"
    rhythm: UpdateSchedule
    drop_fraction: float = 0.15
    threshold: float = 1e-3

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.drop_fraction <= 1:
            problems.append(f"method.rewire.drop_fraction={self.drop_fraction:g} must be in [0, 1]: a share of all connections")
        if self.threshold <= 0:
            problems.append(f"method.rewire.threshold={self.threshold:g} must be positive: it is only doubled and halved")
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> DsrMasking:
        """A masking that starts from `masks`, whose total count stays; the model is not changed.

        Raises:
            ValueError: the task does not train.
        """
        return DsrMasking(
            masks=dict(masks),
            changed=no_change(masks),
            rng=task.rng,
            periods=[self.rhythm.steps(task, 2**i) for i in range(len(DOUBLINGS) + 1)],
            doublings=[share * task.steps for share in DOUBLINGS],
            last=self.rhythm.stop * task.steps,
            drop_fraction=self.drop_fraction,
            threshold=self.threshold,
        )
