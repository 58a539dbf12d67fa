"""Functions shared by the methods that rewire a sparse net during training.

They define when to rewire, which connections to remove and add, and which momentum to reset. The
number of connections never changes. Random choices are drawn on the CPU from the stage's own
stream, so that every device and every process of a run gets the same result. Positions are those
of the flattened parameter; ties go to the lower index, as everywhere (docs/decisions.md 4).

A period is that of its source, like every duration. One in iterations is its share of an epoch of
the source's run (`images` in steps of `batch_size`) and shrinks with train.scale and the training
set (docs/decisions.md 9). One in epochs is at
least one epoch. One deviation: a period in iterations is never cut to fewer than `shortest` steps,
or than the paper's number if that is smaller. New connections begin at zero and need steps before
they are compared with old ones (docs/methods/set.md). RigL's updates replace a step, so that an
update at every step of a short run would leave nothing to train.
"""

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import PAPER_IMAGES, Finding, Masks, Task, count_kept
from pruners.selection.ranks import largest, nth_true

Decay = Literal["cosine", "constant"]


@dataclass(frozen=True)
class UpdateSchedule:
    """Schedule of the rewiring updates: `method.rhythm`.

    Args:
        period: between two updates: `100it`, `1ep`, or a plain number of epochs.
        stop: share of the training after which the masks stay fixed; 1 = the end of training, with
            no update after the last step.
        epochs: train.epochs of the paper, to which `period` refers.
        batch_size, images: images in a step and in an epoch of the run that states a period in
            iterations. Default 50,000 images: CIFAR's.
        shortest: minimum steps of a period in iterations, unless the paper's number is smaller.
            Default 10: ours.
    """

    tag: ClassVar[str] = "update_schedule"
    period: str | int
    stop: float
    epochs: int
    batch_size: int
    shortest: int = 10
    images: int = PAPER_IMAGES

    def __post_init__(self) -> None:
        problems = []
        if not re.fullmatch(r"[1-9]\d*(it|ep)?", str(self.period)):
            problems.append(
                f"method.rhythm.period={self.period!r} must be a number of iterations or epochs, at"
                " least one: 100it, 1ep"
            )
        least = {
            "epochs": "the paper's epochs, to which the period refers",
            "batch_size": "images a step of the paper's, to which the period refers",
            "shortest": "steps between two updates",
            "images": "images an epoch of the run that states the period",
        }
        problems += [
            f"method.rhythm.{key}={getattr(self, key)} must be at least 1: {what}"
            for key, what in least.items()
            if getattr(self, key) < 1
        ]
        problems += refused_stop("method.rhythm.stop", self.stop)
        if problems:
            raise ValueError("\n".join(problems))
        written = str(self.period)
        # `1` and `1ep` have one identity
        object.__setattr__(self, "period", f"{written}ep" if written.isdigit() else written)

    def steps(self, task: Task, factor: int = 1) -> int:
        """Steps of this run between two updates when the paper's period is multiplied by `factor`.

        Raises:
            ValueError: the task does not train.
        """
        if task.epochs < 1:
            raise ValueError(
                "this method changes masks while the net trains: its stage is of kind train"
            )
        number, unit = factor * int(str(self.period)[:-2]), str(self.period)[-2:]
        scale, per_epoch = task.epochs / self.epochs, task.steps // task.epochs
        if unit == "ep":
            return max(1, round(number * scale)) * per_epoch
        share = number / math.ceil(self.images / self.batch_size)  # of an epoch
        return max(round(share * scale * per_epoch), min(self.shortest, number))


def refused_stop(key: str, stop: float) -> list[str]:
    """Error message for a share of the training outside [0, 1]; empty if it is valid."""
    if 0 <= stop <= 1:
        return []
    return [
        f"{key}={stop:g} must be in [0, 1]: the share of the training after which the masks stay"
        " fixed"
    ]


def decayed(share: float, decay: str, step: int, last: float) -> float:
    """The share of connections that an update at a step removes.

    `cosine`: share / 2 (1 + cos(pi step / last)), zero at `last`; `constant`: always `share`.
    """
    return share if decay == "constant" else share / 2 * (1 + math.cos(math.pi * step / last))


def refused_shares(drop_fraction: float, decay: str) -> list[str]:
    """Error messages for an invalid share of removed connections, or rule of its decay."""
    problems = []
    if not 0 <= drop_fraction <= 1:
        problems.append(
            f"method.rewire.drop_fraction={drop_fraction:g} must be in [0, 1]: a share of each"
            " layer's connections"
        )
    if decay not in get_args(Decay):
        problems.append(
            f"method.rewire.decay={decay!r} must be one of {', '.join(get_args(Decay))}"
        )
    return problems


def no_change(masks: Masks) -> Masks:
    """Masks with no position marked: bool tensors like `masks`."""
    return {name: torch.zeros_like(mask) for name, mask in masks.items()}


@torch.no_grad()
def reset_momentum(model: nn.Module, opt: Optimizer, where: Masks) -> None:
    """Set the optimizer's state (momentum) at these positions to zero.

    A connection that was removed or added has no history.
    """
    for name, positions in where.items():
        parameter = model.get_parameter(name)
        for state in opt.state.get(parameter, {}).values():
            if isinstance(state, Tensor) and state.shape == parameter.shape:
                state.masked_fill_(positions, 0.0)


def count_up(report: dict[str, Finding], before: Masks, after: Masks) -> None:
    """Add one update and its number of new connections to `report`, in place."""
    new = count_kept({name: mask & ~before[name] for name, mask in after.items()})
    for key, more in (("updates", 1), ("rewired", new)):
        report[key] = int(report[key] or 0) + more


def weakest(weights: Tensor, active: Tensor, k: int) -> Tensor:
    """Which k of the `active` (bool) weights are closest to zero: bool of their shape.

    The weights may have any shape. Those that are not finite come last.
    """
    lowest = torch.finfo(weights.dtype).min  # above the -inf of inactive positions
    closeness = torch.nan_to_num(-weights.abs(), nan=lowest, neginf=lowest)
    return largest(closeness.masked_fill(~active, -torch.inf).flatten(), k).view(active.shape)


def grow(
    free: Tensor,
    k: int,
    rng: Generator,
    reserve: Tensor | None = None,
    there: int | None = None,
) -> Tensor:
    """k random True positions of `free`, each set of k equally likely: bool of its shape.

    Args:
        reserve: positions outside `free` that are drawn from if `free` has fewer than k.
        there: number of True positions of `free`. If it is not given, it is copied to the host.

    Raises:
        ValueError: there are fewer than k positions in total.
    """
    there = int(free.sum()) if there is None else there
    if k > there:
        if reserve is None:
            raise ValueError(f"there are {there} free positions for {k} new connections")
        return free | grow(reserve, k - there, rng)
    grown = torch.zeros(free.numel(), dtype=torch.bool, device=free.device)
    drawn = distinct(there, k, rng).to(free.device, non_blocking=True)
    grown[nth_true(free.flatten(), drawn)] = True
    return grown.view(free.shape)


def distinct(n: int, k: int, rng: Generator) -> Tensor:
    """k distinct integers in [0, n), drawn without replacement."""
    if 4 * k >= n:
        return torch.randperm(n, generator=rng)[:k]
    # In the order of drawing, without repeats. This takes k draws; a permutation takes n.
    drawn: dict[int, None] = {}
    while len(drawn) < k:
        drawn.update(dict.fromkeys(torch.randint(n, (k,), generator=rng).tolist()))
    return torch.tensor(list(drawn)[:k], dtype=torch.long)
