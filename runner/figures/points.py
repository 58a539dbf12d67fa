"""The numbers of a figure: points, series of points, and the line fitted to a series."""

import math
from dataclasses import dataclass

from runner.suites.numbers import student


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x by least squares, or, of a power, log y = intercept + slope log x.

    Args:
        r2: share of the variance of y (of its logarithm) that the line explains; 1 where y is constant and met.
        error: standard error of the slope; None for two points.
    """

    slope: float
    intercept: float
    r2: float
    n: int
    error: float | None
    power: bool = False

    @property
    def words(self) -> str:
        """For a legend."""
        shown = (
            f"{math.exp(self.intercept):.3g} x^{self.slope:.3g}"
            if self.power
            else f"{self.intercept:.3g} {'+' if self.slope >= 0 else '-'} {abs(self.slope):.3g} x"
        )
        return f"{shown}, R² = {self.r2:.3f}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the slope, by Student's t; None for two points, which leave nothing to judge by."""
        if self.error is None:
            return None
        half = student(self.n - 2) * self.error
        return self.slope - half, self.slope + half

    def at(self, x: float) -> float:
        """The line's y."""
        return math.exp(self.intercept + self.slope * math.log(x)) if self.power else self.intercept + self.slope * x


@dataclass(frozen=True)
class Point:
    """A number of a series as it is drawn: means over the seeds that are done.

    Args:
        x_end: the bin's upper edge in a histogram.
        y, spread: None for a mark; no spread for one seed.
    """

    name: str
    n: int
    x: float
    y: float | None = None
    spread: float | None = None
    x_end: float | None = None
    value: float | None = None  # of a phase diagram's cell


@dataclass(frozen=True)
class Series:
    """What is drawn under one entry of a panel's legend.

    Args:
        ids: of panel and series, where they have others than their labels.
    """

    panel: str
    label: str
    kind: str
    points: tuple[Point, ...]
    asked: int  # points x seeds
    done: int
    colour: int
    line: str
    fit: Line | None = None
    ids: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Ids of panel and series, by which claims refer to it."""
        return self.ids or (self.panel, self.label)

    @property
    def legend(self) -> str:
        """Its name, its fitted line, and how much of it was not run."""
        name = self.label + (f": {self.fit.words}" if self.fit else "")
        if self.done < self.asked:
            return name + (f" ({self.done} of {self.asked} runs)" if self.done else " (not run)")
        return name + (" (none)" if self.done and not self.points else "")
