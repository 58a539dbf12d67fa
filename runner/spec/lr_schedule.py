"""Learning-rate schedules: (lr, step, total) -> the learning rate of that step.

A schedule is a class in this module and a file in conf/lr_schedule. Users select it by the name of
the file: `train.lr_schedule=cosine`. Warm-up is separate and multiplies any schedule
(runner/engine/optim.py).
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol


class LrSchedule(Protocol):
    """Interface of a schedule. Implementations are frozen dataclasses with a `tag`."""

    def __call__(self, lr: float, step: int, total: int) -> float:
        """The learning rate of one step.

        Args:
            lr: the recipe's rate, `train.lr` times the stage's factor.
            step: 0 <= step < total, counted from the start of the schedule.
            total: steps of the whole schedule, at least 1.
        """
        ...


@dataclass(frozen=True)
class Step:
    """lr times `factor` to the power of the number of drops reached.

    The defaults are those of IMC appendix A.4: a factor of 0.1 at epochs 80 and 120 of 160.

    Args:
        drops: shares of all steps, in (0, 1); fractions, so that a drop between two steps is exact.
        factor: > 0.
    """

    tag: ClassVar[str] = "step"
    drops: tuple[str, ...] = ("1/2", "3/4")
    factor: float = 0.1

    def __post_init__(self) -> None:
        if wrong := [drop for drop in self.drops if not _is_share(drop)]:
            raise ValueError(
                f"drops={', '.join(wrong)} must be fractions between 0 and 1, e.g. 1/2"
            )
        if not self.factor > 0:
            raise ValueError(f"factor={self.factor:g} must be positive")

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        reached = sum(step >= Fraction(drop) * total for drop in self.drops)
        return lr * float(self.factor**reached)


@dataclass(frozen=True)
class Cosine:
    """lr / 2 (1 + cos(pi step / total)): half a period of a cosine, from lr to nearly zero.

    Loshchilov and Hutter, SGDR, arXiv 1608.03983, equation 5 without restarts.
    """

    tag: ClassVar[str] = "cosine"

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        return lr / 2 * (1 + math.cos(math.pi * step / total))


@dataclass(frozen=True)
class Constant:
    """lr at every step."""

    tag: ClassVar[str] = "constant"

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        return lr


@dataclass(frozen=True)
class OneCycle:
    """From lr / `divide` up to lr, then down to lr / (`divide` `final`).

    Smith and Topin, Super-Convergence, arXiv 1708.07120, with half cosines between the three rates,
    as torch.optim.lr_scheduler.OneCycleLR(max_lr=lr). The peak is at step `rise` total - 1, or at
    the first step if that is later; the end is at the last step. Momentum does not change, unlike
    there.

    Args:
        rise: share of the steps until the peak, in (0, 1).
        divide: first rate = lr / divide, at least 1.
        final: last rate = first rate / final, at least 1.
    """

    tag: ClassVar[str] = "one_cycle"
    rise: float = 0.3
    divide: float = 25.0
    final: float = 1e4

    def __post_init__(self) -> None:
        _refuse(
            ("rise", self.rise, 0 < self.rise < 1, "above 0 and below 1: a share of the steps"),
            ("divide", self.divide, 1 <= self.divide < math.inf, "at least 1: lr / first rate"),
            ("final", self.final, 1 <= self.final < math.inf, "at least 1: first rate / last rate"),
        )

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        peak, last = max(0.0, self.rise * total - 1), total - 1
        first = lr / self.divide
        if step < peak:
            return _half_cosine(first, lr, step / peak)
        if step == peak:
            return lr
        return _half_cosine(lr, first / self.final, (step - peak) / (last - peak))


@dataclass(frozen=True)
class Trapezoid:
    """Linear rise to lr, lr, linear decay: lr min(1, (step + 1) / up, (total - step) / down).

    `up` and `down` are in steps here. No step has the rate 0: the first has lr / up, the last
    lr / down. It is also called "warmup-stable-decay" (Hagele et al., arXiv 2405.18392).

    Args:
        rise: share of the steps in which the rate rises, in [0, 1].
        decay: share of the steps in which it decays, in [0, 1]; `rise` + `decay` is at most 1.
    """

    tag: ClassVar[str] = "trapezoid"
    rise: float = 0.1
    decay: float = 0.2

    def __post_init__(self) -> None:
        both = self.rise + self.decay
        _refuse(
            ("rise", self.rise, 0 <= self.rise <= 1, "in [0, 1]: a share of the steps"),
            ("decay", self.decay, 0 <= self.decay <= 1, "in [0, 1]: a share of the steps"),
            ("rise + decay", both, both <= 1, "at most 1: together they are shares of the steps"),
        )

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        up, down = self.rise * total, self.decay * total
        rising = (step + 1) / up if up else 1.0
        falling = (total - step) / down if down else 1.0
        return lr * min(1.0, rising, falling)


@dataclass(frozen=True)
class WarmupCosine:
    """Linear rise from `start` lr to lr, then half a cosine from lr to nearly zero.

    The cosine begins after the rise, at step round(`rise` total); with lr_schedule=cosine and
    train.warmup it begins at step 0. This is torch.optim.lr_scheduler's LinearLR followed by
    CosineAnnealingLR, at their milestone.

    Args:
        rise: share of the steps in which the rate rises, in [0, 1).
        start: first rate / lr, in (0, 1].
    """

    tag: ClassVar[str] = "warmup_cosine"
    rise: float = 0.05
    start: float = 0.01

    def __post_init__(self) -> None:
        _refuse(
            ("rise", self.rise, 0 <= self.rise < 1, "in [0, 1): a share of the steps"),
            ("start", self.start, 0 < self.start <= 1, "above 0 and at most 1: first rate / lr"),
        )

    def __call__(self, lr: float, step: int, total: int) -> float:
        """`LrSchedule.__call__`."""
        rise = min(round(self.rise * total), total - 1)
        if step < rise:
            return lr * (self.start + (1 - self.start) * step / rise)
        return _half_cosine(lr, 0.0, (step - rise) / (total - rise))


def _half_cosine(first: float, last: float, share: float) -> float:
    """From `first` (share 0) to `last` (share 1) in half a period of a cosine."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


def _refuse(*checks: tuple[str, float, bool, str]) -> None:
    """Raise an error that names every option (key, value, whether valid, range) that is invalid."""
    problems = [
        f"{key}={value:g} must be {what}" for key, value, valid, what in checks if not valid
    ]
    if problems:
        raise ValueError("\n".join(problems))


def _is_share(text: str) -> bool:
    try:
        return 0 < Fraction(text) < 1
    except (ValueError, ZeroDivisionError):
        return False
