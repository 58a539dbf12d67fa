"""Least-squares lines through the points of a figure, and the boundary of a phase diagram."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from runner.figures.points import Line, Point

HALF = 0.5


def line_through(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """Fit a least-squares line; the result is None for fewer than two different x."""
    if len(set(xs)) < 2:
        return None
    x0, y0, n = statistics.fmean(xs), statistics.fmean(ys), len(xs)
    xx, xy, yy = (
        sum((a - a0) * (b - b0) for a, b in zip(u, v, strict=True))
        for u, a0, v, b0 in ((xs, x0, xs, x0), (xs, x0, ys, y0), (ys, y0, ys, y0))
    )
    slope = xy / xx
    left = sum((y - y0 - slope * (x - x0)) ** 2 for x, y in zip(xs, ys, strict=True))
    r2 = 1 - left / yy if yy else 1.0
    error = math.sqrt(left / (n - 2) / xx) if n > 2 else None
    return Line(slope, y0 - slope * x0, r2, n, error)


def fitted(points: Sequence[Point], how: str | None) -> Line | None:
    """Fit the kind of line that a series requests: linear, power, or None."""
    pairs = [(p.x, p.y) for p in points if p.y is not None]
    if how is None:
        return None
    if how == "power":
        line = line_through([math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs])
        return replace(line, power=True) if line else None
    return line_through([x for x, _ in pairs], [y for _, y in pairs])


def crossings(cells: Sequence[Point]) -> list[Point]:
    """Return, for each x of a grid, the y at which `value` passes one half.

    The value is interpolated linearly between neighbours. Several such y are averaged; an x without
    one has no point.
    """
    found = []
    for x in dict.fromkeys(p.x for p in cells):
        known = [p for p in cells if p.x == x and p.value is not None]
        column = sorted(known, key=lambda p: p.y or 0.0)
        passed = [y for low, high in pairwise(column) for y in _crossing(low, high)]
        if passed:
            found.append(replace(column[0], y=statistics.fmean(passed), value=None))
    return found


def _crossing(low: Point, high: Point) -> list[float]:
    """The y between two neighbours at which the value is one half; empty if there is none."""
    a, b = (low.value or 0.0) - HALF, (high.value or 0.0) - HALF
    # A cell of exactly one half is counted once, as the upper end of its interval.
    if a * b > 0 or a == b or (a == 0 and b != 0):
        return []
    return [(low.y or 0.0) + a / (a - b) * ((high.y or 0.0) - (low.y or 0.0))]
