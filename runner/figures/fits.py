"""Least-squares lines through the points of a figure, and the boundary of a phase diagram."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from runner.figures.points import Line, Point
from runner.stats.boundary import Cells, columns
from runner.stats.estimates import SIDE


def line_through(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """Fit a least-squares line; the result is None for fewer than two different x."""
    if len(set(xs)) < 2:
        return None
    x0, y0 = statistics.fmean(xs), statistics.fmean(ys)
    xx, xy, yy = (
        sum((a - a0) * (b - b0) for a, b in zip(u, v, strict=True))
        for u, a0, v, b0 in ((xs, x0, xs, x0), (xs, x0, ys, y0), (ys, y0, ys, y0))
    )
    slope = xy / xx
    left = sum((y - y0 - slope * (x - x0)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(slope, y0 - slope * x0, 1 - left / yy if yy else 1.0)


def fitted(points: Sequence[Point], how: str | None) -> Line | None:
    """Fit the kind of line that a series requests: linear, power, or None."""
    pairs = [(p.x, p.y) for p in points if p.y is not None]
    if how is None:
        return None
    if how == "power":
        line = line_through([math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs])
        return replace(line, power=True) if line else None
    return line_through([x for x, _ in pairs], [y for _, y in pairs])


def cells_of(points: Sequence[Point]) -> Cells | None:
    """The cells of a phase diagram; None unless some columns are nearer to 0 and some to 1."""
    known = [p for p in points if p.value is not None and p.trials]
    rows = np.array([(p.x, p.y or 0.0, p.value, p.trials) for p in known], dtype=float)
    if len({p.x for p in known}) < 2 or len({p.y for p in known}) < 2:
        return None
    if not rows[:, 2].min() < 0.5 < rows[:, 2].max():
        return None
    return Cells(*rows.T)


def boundary(points: Sequence[Point], cells: Cells | None) -> tuple[list[Point], str]:
    """The points at which a phase diagram passes one half, and what the other columns are.

    The spread of a point is the standard error that its interval stands for; None if an end of the
    interval is infinite. Columns that pass one half outside their cells have no point.
    """
    if cells is None:
        return [], ""
    first = {p.x: p for p in reversed(points)}
    centres = columns(cells)
    found = [
        replace(
            first[c.x],
            y=c.y,
            spread=(c.high - c.low) / 2 / -ndtri(SIDE) if np.isfinite(c.high - c.low) else None,
            value=None,
        )
        for c in centres
        if c.inside
    ]
    censored = len(centres) - len(found)
    text = f"{censored} of {len(centres)} columns do not cross" if censored else ""
    return found, text


def boundary_line(cells: Cells | None) -> Line | None:
    """The line that fits the cells best."""
    if cells is None:
        return None
    intercept, slope, _ = cells.line()
    return Line(float(slope), float(intercept), None)
