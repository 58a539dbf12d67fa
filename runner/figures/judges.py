"""Verdicts on series: order, extrema, stability, falls and slopes, with errors over seeds."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from runner.figures.points import Point, Series
from runner.stats import boundary
from runner.stats.estimates import Array, ByTrial, Estimates, Points
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
from runner.stats.seeds import DIFFERENCE, BySeed, of_samples
from runner.suites.verdicts import NONE, OPEN, Power, Verdict, seeds_used

MARGIN = 0.02  # of a ratio that is to be 1
NO_SEED = Verdict("", "no seed has all points", holds=OPEN)


def measured_points(points: Sequence[Point], rounding: Sequence[float]) -> Points | None:
    """Points with their seeds or trials; `rounding`: the variances of rounding of each.

    Only seeds that all the points have are used. None if there are no such seeds.
    """
    if all(point.trials and point.spread is not None for point in points):
        means, deviations, trials = zip(
            *((p.y or 0.0, p.spread or 0.0, p.trials or 1) for p in points), strict=True
        )
        return ByTrial(*(np.array(part, dtype=float) for part in (means, deviations, trials)))
    found = of_samples([dict(point.by_seed) for point in points], rounding)
    return found if len(found.values) else None


def of_order(series: Series, other: Series, margin: float, everywhere: bool) -> Verdict:
    """Judge that a series is below another one plus a margin, at the points that both have.

    Args:
        everywhere: at each of them; otherwise on average.
    """
    ours, theirs = ({p.x: p for p in _known(each)} for each in (series, other))
    both = [x for x in ours if x in theirs]
    if not both:
        return Verdict("")
    rounding = [series.rounding] * len(both) + [other.rounding] * len(both)
    points = measured_points([each[x] for each in (ours, theirs) for x in both], rounding)
    if points is None:
        return NO_SEED
    each_gap = _differences(len(both))
    weights = each_gap if everywhere else each_gap.mean(axis=0, keepdims=True)
    shown = each_gap @ points.means
    of_all = f"{shown.min():.3g} at least" if everywhere else f"{shown.mean():.3g} on average"
    text = (
        f"{int((shown > -margin).sum())} of {len(both)} point{'s' if len(both) > 1 else ''},"
        f" gap {of_all}"
    )
    alone = len(ours.keys() ^ theirs.keys())
    left_out = [f"{alone} point{'s' if alone > 1 else ''} of one series alone"] if alone else []
    gaps = points.contrasts(weights)
    power = _power(points, gaps)
    return _verdict(text, points, weights, smallest(gaps, -margin), left_out, power)


def of_extreme(series: Series, inside: tuple[float, float], sign: int) -> Verdict:
    """Judge that the greatest y (`sign` 1) or the least (-1) is at an x in the range `inside`."""
    known = _known(series)
    if not known:
        return Verdict("")
    points = measured_points(known, [series.rounding] * len(known))
    if points is None:
        return NO_SEED
    best = int(np.argmax(sign * points.means))
    extreme = "greatest" if sign > 0 else "least"
    text = f"{extreme}, {points.means[best]:.3g}, at {known[best].x:.3g}"
    among = [i for i, p in enumerate(known) if inside[0] <= p.x <= inside[1]]
    others = [i for i in range(len(known)) if i not in among]
    if not among or not others:
        return Verdict("", text, holds=OPEN)
    weights = np.zeros((len(among) * len(others), len(known)))
    for row, (i, j) in enumerate(product(among, others)):
        weights[row, [i, j]] = sign, -sign
    evidence = highest_inside(points.contrasts(weights), len(among), len(others))
    return _verdict(text, points, weights, evidence)


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
    points = measured_points([at[start], at[end]], [series.rounding] * 2)
    if points is None:
        return NO_SEED
    fall = points.contrasts(DIFFERENCE)
    text = f"from {points.means[0]:.4g} to {points.means[1]:.4g}"
    power = _power(points, fall)
    return _verdict(text, points, DIFFERENCE, above(fall, by), power=power)


def of_slope(series: Series, least: float, most: float, powers: Sequence[float]) -> Verdict:
    """Judge the slope of a series; with rival powers also that it is a line and not one of them."""
    if series.kind == "boundary":
        return _of_boundary(series, least, most, powers)
    known = _known(series)
    if len({p.x for p in known}) < 2 + bool(powers):
        return Verdict("")
    if measured_points(known, [series.rounding] * len(known)) is None:
        return NO_SEED
    x, points = _on_axes(series, known)
    if points is None:
        return Verdict("", "numbers that are not positive", holds=OPEN)
    apart = x - x.mean()
    weights = (apart / (apart @ apart))[None]
    slope = points.contrasts(weights)
    text = f"slope {slope.value[0]:.3g}, {len(known)} points"
    evidence = between(slope, least, most)
    if powers:
        line = points.misfit(_curve(x, 1), x**2)
        rivals = [points.misfit(_curve(x, power), x) for power in powers]
        evidence = straight(evidence, line, rivals)
        text += _fits(line, powers, rivals)
    return _verdict(text, points, weights, evidence)


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
    """x and the measured points, both as logarithms for a power; None where one has none.

    None, too, where no seed has all points.
    """
    x = np.array([p.x for p in known])
    points = measured_points(known, [series.rounding] * len(known))
    if points and series.fit and series.fit.power:
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
    measured = measured_points(points, rounding)
    if measured is None:
        return NO_SEED
    text = f"{len(points)} points within {np.ptp(measured.means):.3g}"
    return _verdict(text, measured, weights, steady(measured.contrasts(weights), within))


def _verdict(
    text: str,
    points: Points,
    weights: Array,
    evidence: Evidence,
    left_out: Sequence[str] = (),
    power: Power | None = None,
) -> Verdict:
    """A verdict with what it comes from; without a spread of any of the numbers it is open.

    Args:
        weights: the contrasts of the points that were judged.
        left_out: what was not compared, beside seeds.
    """
    pairing = None
    if isinstance(points, BySeed):
        pairing = points.pairing(weights)
        some = [f"{points.missing} left out, incomplete"] if points.missing else []
        text += f", {seeds_used(pairing, [*some, *left_out])}"
    elif left_out:
        text += f" ({'; '.join(left_out)})"
    found = Verdict("", text, power=power, pairing=pairing, holds=OPEN)
    if not points.contrasts(weights).known.all():
        return found
    return replace(found, interval=_interval(evidence), evidence=evidence)


def _power(points: Points, gaps: Estimates) -> Power:
    """The power of gaps over seeds, at the point with the largest spread."""
    spread = float(gaps.error.max()) * float(points.size**0.5) if gaps.known.all() else None
    return Power(points.size, spread)


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
