"""What the driver asks of each kind of fault."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Protocol, TypeVar

from runner.faults.cases import Stock
from runner.faults.trial import Trial

Item = TypeVar("Item")


class Unavailable(Exception):
    """This machine cannot make such a fault; the message says why."""


@dataclass(frozen=True)
class Part:
    """One of several equal parts of a kind's trials; each has random numbers of its own."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items that this part tries; all, if there are fewer items than parts."""
        return list(items[self.index :: self.count]) or list(items)

    def share(self, planned: int) -> int:
        """The number of planned trials of this part; those of all parts sum to `planned`."""
        return len(range(self.index, planned, self.count))


class Kind(Protocol):
    """A kind of fault.

    `planned` is the number of trials when time is not limited. `title` is the row of the table.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    planned: ClassVar[int]

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """Yield trials without end.

        Args:
            part: where trials go through a list, the part of the list to try.

        Raises:
            Unavailable: this machine cannot make such a fault.
        """
