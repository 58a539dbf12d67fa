"""One figure of `make bench`: a value, and what it is measured against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value beside a rival's or a limit's, from the same run.

    Args:
        name: name of the figure, as in results/bench/bench.json.
        value: our value.
        unit: unit of both values.
        rival: description of what it is measured against, or None.
        rival_value: the value of the rival or limit, or None.
        ratio: the figure that counts, as the name says (value / rival_value or its inverse).
    """

    name: str
    value: float
    unit: str
    rival: str | None = None
    rival_value: float | None = None
    ratio: float | None = None
