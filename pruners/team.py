"""The processes that compute scores and products with the Hessian together (pruners/divided.py)."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Team(Protocol):
    """The processes that compute together."""

    @property
    def rank(self) -> int: ...  # of this process, from 0
    @property
    def size(self) -> int: ...  # number of processes

    # the sum over processes, in place; all processes call it in the same order
    def total(self, values: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Alone:
    """A single process, which divides nothing."""

    rank: int = 0
    size: int = 1

    def total(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


ALONE = Alone()
