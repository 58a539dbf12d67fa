"""The numbers of a figure: points, series of points, and the line fitted to a series."""

import math
from dataclasses import dataclass

from runner.stats.boundary import Cells
from runner.stats.evidence import LEVEL
from runner.stats.seeds import Measured


@dataclass(frozen=True)
class Line:
    """A least-squares line: y = intercept + slope x, or log y = intercept + slope log x.

    Args:
        r2: share of the variance of y (or of its logarithm) that the line explains; 1 if y is
            constant; None for a line that was not fitted to points.
        power: whether the line is fitted to logarithms.
        p: p-value of its lack of fit; None if it was not tested.
    """

    slope: float
    intercept: float
    r2: float | None
    power: bool = False
    p: float | None = None

    @property
    def rejected(self) -> bool:
        """Whether the points are not on such a line."""
        return self.p is not None and self.p < LEVEL

    @property
    def equation(self) -> str:
        """The equation and R2 for a legend, and that the fit is rejected."""
        if self.power:
            shown = f"{math.exp(self.intercept):.3g} x^{self.slope:.3g}"
        else:
            sign = "+" if self.slope >= 0 else "-"
            shown = f"{self.intercept:.3g} {sign} {abs(self.slope):.3g} x"
        shown += "" if self.r2 is None else f", R² = {self.r2:.3f}"
        return f"{shown}; fit rejected, p = {self.p:.1g}" if self.rejected else shown

    def at(self, x: float) -> float:
        """The y of the line at `x`."""
        if self.power:
            return math.exp(self.intercept + self.slope * math.log(x))
        return self.intercept + self.slope * x


@dataclass(frozen=True)
class Point:
    """A drawn number of a series: means over the finished seeds.

    Args:
        y, spread: None for a mark; spread is also None for one seed.
        x_end: the upper edge of a histogram's bin.
        value: the value of a phase diagram's cell.
        by_seed: pairs (seed, y with its kind) behind a mean.
        trials: number of independent trials of the only run, whose deviation is `spread`.
    """

    name: str
    n: int
    x: float
    y: float | None = None
    spread: float | None = None
    x_end: float | None = None
    value: float | None = None
    by_seed: tuple[tuple[int, Measured], ...] = ()
    trials: int | None = None


@dataclass(frozen=True)
class Series:
    """The data of one legend entry of a panel.

    Args:
        requested: number of requested runs: points x seeds.
        done: number of finished runs that did not diverge.
        diverged: number of diverged runs, which are not drawn.
        collapsed: number of runs with the accuracy of chance, which are drawn.
        doubt: how many runs failed or lack the convergence check of what is drawn.
        ids: the ids of panel and series; by default their labels.
        rounding: variance of the rounding of y, for accuracies: that of one test image.
        cells: the cells of a phase diagram behind a boundary.
    """

    panel: str
    label: str
    kind: str
    points: tuple[Point, ...]
    requested: int
    done: int
    colour: int
    line: str
    fit: Line | None = None
    ids: tuple[str, str] | None = None
    diverged: int = 0
    collapsed: int = 0
    doubt: str = ""
    rounding: float = 0.0
    cells: Cells | None = None

    @property
    def state(self) -> str:
        """The number of drawn runs if some are missing, of diverged and of collapsed ones."""
        parts = [f"{self.done} of {self.requested} runs"] if self.done < self.requested else []
        parts += [f"{self.diverged} diverged"] if self.diverged else []
        parts += [f"{self.collapsed} collapsed"] if self.collapsed else []
        return ", ".join(parts)

    @property
    def key(self) -> tuple[str, str]:
        """The ids of panel and series, by which claims refer to it."""
        return self.ids or (self.panel, self.label)

    @property
    def legend(self) -> str:
        """The name, the fitted line, doubts, and the number of finished runs if some miss."""
        name = self.label + (f": {self.fit.equation}" if self.fit else "")
        name += f" ({self.doubt})" if self.doubt else ""
        if self.state:
            return f"{name} ({self.state if self.done or self.diverged else 'not run'})"
        return name + (" (none)" if self.done and not self.points else "")
