"""Verdicts on series: order, extrema, stability, falls and slopes, with errors over seeds."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from runner.figures.points import Point, Series
from runner.stats import boundary
from runner.stats.estimates import Array, BySeed, ByTrial, Estimates, Points
from runner.stats.evidence import (
    Evidence,
    above,
    between,
    highest_inside,
    ratio,
    smallest,
    steady,
    straight,
)
from runner.suites.verdicts import NONE, OPEN, Power, Verdict

MARGIN = 0.02  # of a ratio that is to be 1


def measured_points(points: Sequence[Point], rounding: Sequence[float]) -> Points:
    """Points with their seeds or trials; `rounding`: the variances of rounding of each.

    Only seeds that all the points have are used.
    """
    if all(point.trials and point.spread is not None for point in points):
        means, deviations, trials = zip(
            *((p.y or 0.0, p.spread or 0.0, p.trials or 1) for p in points), strict=True
        )
        return ByTrial(*(np.array(part, dtype=float) for part in (means, deviations, trials)))
    numbers = [dict(point.by_seed) for point in points]
    seeds = sorted(set.intersection(*(set(each) for each in numbers)))
    values = [[each[seed] for each in numbers] for seed in seeds]
    shape = (len(seeds), len(points))
    return BySeed(np.array(values, dtype=float).reshape(shape), np.array(rounding, dtype=float))


def of_order(series: Series, other: Series, margin: float, everywhere: bool) -> Verdict:
    """Judge that a series is below another one plus a margin, at the points that both have.

    Args:
        everywhere: at each of them; otherwise on average.
    """
    theirs = {p.x: p for p in _known(other)}
    pairs = [(p, theirs[p.x]) for p in _known(series) if p.x in theirs]
    if not pairs:
        return Verdict("")
    ours, others = zip(*pairs, strict=True)
    rounding = [series.rounding] * len(ours) + [other.rounding] * len(others)
    weights = _differences(len(pairs))
    if not everywhere:
        weights = weights.mean(axis=0, keepdims=True)
    gaps = measured_points([*ours, *others], rounding).contrasts(weights)
    shown = [(b.y or 0.0) - (a.y or 0.0) for a, b in pairs]
    below = sum(gap > -margin for gap in shown)
    of_all = f"{min(shown):.3g} at least" if everywhere else f"{np.mean(shown):.3g} on average"
    text = f"{below} of {len(shown)} point{'s' if len(shown) > 1 else ''}, gap {of_all}"
    return _verdict(text, gaps, smallest(gaps, -margin), power=_power(ours, gaps))


def of_extreme(series: Series, inside: tuple[float, float], sign: int) -> Verdict:
    """Judge that the greatest y (`sign` 1) or the least (-1) is at an x in the range `inside`."""
    known = _known(series)
    if not known:
        return Verdict("")
    best = max(known, key=lambda p: sign * (p.y or 0.0))
    text = f"{'greatest' if sign > 0 else 'least'}, {best.y:.3g}, at {best.x:.3g}"
    among = [i for i, p in enumerate(known) if inside[0] <= p.x <= inside[1]]
    others = [i for i in range(len(known)) if i not in among]
    if not among or not others:
        return Verdict("", text, holds=OPEN)
    weights = np.zeros((len(among) * len(others), len(known)))
    for row, (i, j) in enumerate(product(among, others)):
        weights[row, [i, j]] = sign, -sign
    gaps = measured_points(known, [series.rounding] * len(known)).contrasts(weights)
    return _verdict(text, gaps, highest_inside(gaps, len(among), len(others)))


def of_stability(series: Series, inside: tuple[float, float], within: float) -> Verdict:
    """Judge that y differs by less than `within` between any two points of a range of x."""
    known = [p for p in _known(series) if inside[0] <= p.x <= inside[1]]
    return _of_range(known, [series.rounding] * len(known), within)


def of_last_points(series: Sequence[Series], within: float) -> Verdict:
    """Judge that the last points of several series differ by less than `within`."""
    last = [(max(known, key=lambda p: p.x), s.rounding) for s in series if (known := _known(s))]
    if len(last) < len(series):
        return Verdict("")
    return _of_range([p for p, _ in last], [rounding for _, rounding in last], within)


def of_fall(series: Series, start: float, end: float, by: float) -> Verdict:
    """Judge that y falls by more than `by` from the point at `start` to the one at `end`."""
    at = {p.x: p for p in _known(series)}
    if start not in at or end not in at:
        return Verdict("")
    pair = [at[start], at[end]]
    fall = measured_points(pair, [series.rounding] * 2).contrasts(np.array([[1.0, -1.0]]))
    text = f"from {pair[0].y:.4g} to {pair[1].y:.4g}"
    return _verdict(text, fall, above(fall, by), power=_power(pair, fall))


def of_slope(series: Series, least: float, most: float, powers: Sequence[float]) -> Verdict:
    """Judge the slope of a series; with rival powers also that it is a line and not one of them."""
    if series.kind == "boundary":
        return _of_boundary(series, least, most, powers)
    known = _known(series)
    if len({p.x for p in known}) < 2 + bool(powers):
        return Verdict("")
    x, points = _on_axes(series, known)
    if points is None:
        return Verdict("", "numbers that are not positive", holds=OPEN)
    apart = x - x.mean()
    slope = points.contrasts((apart / (apart @ apart))[None])
    text = f"slope {slope.value[0]:.3g}, {len(known)} points"
    evidence = between(slope, least, most)
    if powers:
        line = points.misfit(_curve(x, 1), x**2)
        rivals = [points.misfit(_curve(x, power), x) for power in powers]
        evidence = straight(evidence, line, rivals)
        text += _fits(line, powers, rivals)
    return _verdict(text, slope, evidence)


def lack_of_fit(series: Series) -> float | None:
    """The p-value of the lack of fit of a series' line; None if nothing can be tested.

    With seeds, the line is tested against curvature; with trials, against all curves.
    """
    if series.kind == "boundary":
        return None if series.cells is None else boundary.misfit(series.cells)
    known = _known(series)
    if series.fit is None or len({p.x for p in known}) < 3:
        return None
    x, points = _on_axes(series, known)
    return None if points is None else points.misfit(_curve(x, 1), x**2)


def _on_axes(series: Series, known: Sequence[Point]) -> tuple[Array, Points | None]:
    """x and the measured points, both as logarithms for a power; None where one has none."""
    x = np.array([p.x for p in known])
    points: Points = measured_points(known, [series.rounding] * len(known))
    if series.fit and series.fit.power:
        return (np.log(x), points.logarithms()) if (x > 0).all() else (x, None)
    return x, points


def of_ratio(measured: float, low: float, high: float, equal: bool) -> Verdict:
    """Judge that a ratio with its 95 % interval is 1 or, without `equal`, at most 1."""
    evidence = ratio(measured, low, high, equal, MARGIN)
    return Verdict("", f"{measured:.4g}", f"[{low:.4g}, {high:.4g}]", evidence)


def _of_boundary(series: Series, least: float, most: float, powers: Sequence[float]) -> Verdict:
    if series.cells is None:
        return Verdict("", holds=OPEN) if series.done else Verdict("")
    slope, evidence = boundary.judged(series.cells, least, most, powers)
    text = f"slope {slope:.3g}, {len(series.cells.xs)} columns"
    if powers:
        line = boundary.misfit(series.cells)
        text += _fits(line, powers, [boundary.misfit(series.cells, power) for power in powers])
    return Verdict("", text, _interval(evidence), evidence)


def _of_range(points: Sequence[Point], rounding: Sequence[float], within: float) -> Verdict:
    """Judge that the largest difference of any two points is below `within`."""
    if len(points) < 2:
        return Verdict("")
    ordered = [(i, j) for i, j in product(range(len(points)), repeat=2) if i != j]
    weights = np.zeros((len(ordered), len(points)))
    for row, (i, j) in enumerate(ordered):
        weights[row, [i, j]] = 1, -1
    apart = measured_points(points, rounding).contrasts(weights)
    ys = [p.y or 0.0 for p in points]
    text = f"{len(points)} points within {max(ys) - min(ys):.3g}"
    return _verdict(text, apart, steady(apart, within))


def _verdict(
    text: str, found: Estimates, evidence: Evidence, power: Power | None = None
) -> Verdict:
    """A verdict; without a spread of any of the numbers it is open."""
    if not found.known.all():
        return Verdict("", text, holds=OPEN, power=power)
    return Verdict("", text, _interval(evidence), evidence, power=power)


def _power(points: Sequence[Point], gaps: Estimates) -> Power:
    """The power of gaps over seeds, at the point with the largest spread."""
    seeds = min(p.trials or len(p.by_seed) for p in points)
    spread = float(gaps.error.max()) * float(seeds**0.5) if gaps.known.all() else None
    return Power(seeds, spread)


def _fits(line: float, powers: Sequence[float], rivals: Sequence[float]) -> str:
    """The p-values of the curves that were compared."""
    others = [f"x^{power:g} {p:.2g}" for power, p in zip(powers, rivals, strict=True)]
    return f"; p of fits: line {line:.2g}, {', '.join(others)}"


def _interval(evidence: Evidence) -> str:
    if not np.isfinite([evidence.low, evidence.high]).any():
        return NONE
    return f"[{evidence.low:.3g}, {evidence.high:.3g}]"


def _known(series: Series) -> list[Point]:
    return [p for p in series.points if p.y is not None]


def _differences(k: int) -> Array:
    """Contrasts of k points and then k others: each of the others minus its partner."""
    return np.hstack([-np.eye(k), np.eye(k)])


def _curve(x: Array, power: float) -> Array:
    return np.column_stack([np.ones_like(x), x**power])
