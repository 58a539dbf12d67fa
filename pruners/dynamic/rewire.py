"""What the methods that rewire a sparse net while it trains share (SET, RigL, Deep-R, DSR): how often, which connections go and come, what momentum forgets.

The number of connections never changes. Random choices are drawn on the CPU from the stage's own stream, so that every device and every process of a team sees
the same. Positions are those of the flattened parameter; ties go to the lower index, as everywhere (decisions.md 4).

A period is the paper's, as every duration: one in iterations is its share of an epoch of 50,000 images and shrinks with train.scale and the training set
(decisions.md 9), one in epochs is at least one epoch. One deviation from that rule: a period in iterations is never cut to fewer than `shortest` steps (nor to
more than the paper's number), because new connections begin at zero and need steps before they are compared with old ones (methods/set.md, pitfall 5), and
because RigL's updates take the place of a step: at every step of a short run, nothing would train.
"""

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import PAPER_IMAGES, Finding, Masks, Task, largest


@dataclass(frozen=True)
class UpdateSchedule:
    """When connections are rewired: `method.rhythm`.

    Args:
        period: between two updates: `100it`, `1ep`, or a plain number of epochs.
        stop: share of the training after which nothing is rewired any more; 1 = until the end, with no update after the last step.
        epochs, batch_size: of the paper's training, which `period` belongs to: train.epochs and train.batch_size.
        shortest: steps that a period in iterations has at least, if the paper's has them. Default 10: ours.
    """

    tag: ClassVar[str] = "update_schedule"
    period: str | int
    stop: float
    epochs: int
    batch_size: int
    shortest: int = 10

    def __post_init__(self) -> None:
        problems = []
        if not re.fullmatch(r"[1-9]\d*(it|ep)?", str(self.period)):
            problems.append(f"method.rhythm.period={self.period!r} must be a number of iterations or epochs, at least one: 100it, 1ep")
        if self.shortest < 1:
            problems.append(f"method.rhythm.shortest={self.shortest} must be at least 1: steps between two updates")
        problems += refused_stop("method.rhythm.stop", self.stop)
        if problems:
            raise ValueError("\n".join(problems))
        written = str(self.period)
        object.__setattr__(self, "period", f"{written}ep" if written.isdigit() else written)  # one identity for 1 and 1ep

    def steps(self, task: Task, factor: int = 1) -> int:
        """Steps of this run between two updates when the paper's period is multiplied by `factor`.

        Raises:
            ValueError: the task does not train.
        """
        if task.epochs < 1:
            raise ValueError("this method rewires connections while the net trains: its stage is of kind train")
        number, unit = factor * int(str(self.period)[:-2]), str(self.period)[-2:]
        scale, per_epoch = task.epochs / self.epochs, task.steps // task.epochs
        if unit == "ep":
            return max(1, round(number * scale)) * per_epoch
        share = number / math.ceil(PAPER_IMAGES / self.batch_size)  # of an epoch
        return max(round(share * scale * per_epoch), min(self.shortest, number))


def refused_stop(key: str, stop: float) -> list[str]:
    """The message for a share of the training that is none; empty if it is one."""
    return [] if 0 <= stop <= 1 else [f"{key}={stop:g} must be in [0, 1]: the share of the training after which nothing is rewired any more"]


def no_change(masks: Masks) -> Masks:
    """No position of any mask, as bool tensors like the masks."""
    return {name: torch.zeros_like(mask) for name, mask in masks.items()}


@torch.no_grad()
def reset_momentum(model: nn.Module, opt: Optimizer, where: Masks) -> None:
    """Set the optimizer's memory (momentum) of these positions to zero: a connection that has gone or come has no past."""
    for name, positions in where.items():
        parameter = model.get_parameter(name)
        for state in opt.state.get(parameter, {}).values():
            if isinstance(state, Tensor) and state.shape == parameter.shape:
                state.masked_fill_(positions, 0.0)


def count_up(report: dict[str, Finding], before: Masks, after: Masks) -> None:
    """One more update in the report, in place, and the connections that are there now and were not before."""
    new = sum(int((mask & ~before[name]).sum()) for name, mask in after.items())
    for key, more in (("updates", 1), ("rewired", new)):
        report[key] = int(report[key] or 0) + more


def weakest(weights: Tensor, active: Tensor, k: int) -> Tensor:
    """Which k of the `active` (bool) weights of any shape are closest to zero: bool of that shape. Weights that are not finite go last."""
    lowest = torch.finfo(weights.dtype).min  # above the -inf of what is not active
    closeness = torch.nan_to_num(-weights.abs(), nan=lowest, neginf=lowest)
    return largest(closeness.masked_fill(~active, -torch.inf).flatten(), k).view(active.shape)


def grow(free: Tensor, k: int, rng: Generator, reserve: Tensor | None = None) -> Tensor:
    """k of the True positions of `free`, each set of k equally likely: bool of its shape.

    Args:
        reserve: positions, none of them in `free`, that are drawn from when `free` has fewer than k.

    Raises:
        ValueError: there are fewer than k positions in all.
    """
    places = free.flatten().nonzero().flatten()
    if k > len(places):
        if reserve is None:
            raise ValueError(f"there are {len(places)} free positions for {k} new connections")
        return free | grow(reserve, k - len(places), rng)
    grown = torch.zeros(free.numel(), dtype=torch.bool, device=free.device)
    grown[places[distinct(len(places), k, rng).to(free.device)]] = True
    return grown.view(free.shape)


def distinct(n: int, k: int, rng: Generator) -> Tensor:
    """k different whole numbers below n, drawn without replacement."""
    if 4 * k >= n:
        return torch.randperm(n, generator=rng)[:k]
    drawn: dict[int, None] = {}  # in the order of drawing; numbers that were drawn before are passed over. k draws, where a permutation takes n
    while len(drawn) < k:
        drawn.update(dict.fromkeys(torch.randint(n, (k,), generator=rng).tolist()))
    return torch.tensor(list(drawn)[:k], dtype=torch.long)
