"""What the driver asks of each kind of fault."""

from collections.abc import Iterator
from random import Random
from typing import ClassVar, Protocol

from runner.faults.cases import Stock
from runner.faults.trial import Trial


class Unavailable(Exception):
    """This machine cannot make such a fault; the message says why."""


class Kind(Protocol):
    """A kind of fault.

    `planned` is the number of trials when time is not limited. `title` is the row of the table.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    planned: ClassVar[int]

    def trials(self, stock: Stock, rng: Random) -> Iterator[Trial]:
        """Yield trials without end.

        Raises:
            Unavailable: this machine cannot make such a fault.
        """
