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


def _is_share(text: str) -> bool:
    try:
        return 0 < Fraction(text) < 1
    except (ValueError, ZeroDivisionError):
        return False
