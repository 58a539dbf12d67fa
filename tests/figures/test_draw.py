"""Pictures: bands on logarithmic axes, curves that coincide, and fits that are rejected."""

import itertools
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from runner.figures.axes import BELOW_ZERO
from runner.figures.draw import Panel, _fill, coinciding
from runner.figures.fits import line_through
from runner.figures.points import Point, Series
from runner.figures.series import with_lack_of_fit
from runner.stats.seeds import Measured
from runner.suites.schema_figures import Look, XAxis, YAxis


def seeds(x: int, y: float, spread: float) -> tuple[tuple[int, Measured], ...]:
    """Three seeds, which differ in another way at each point."""
    return tuple((seed, Measured(y + seed * spread * (1 + x % 3))) for seed in (-1, 0, 1))


def curve(label: str, ys: list[float], spread: float = 0.0, **more: Any) -> Series:
    points = tuple(
        Point(str(x), 3, x, y, spread, by_seed=seeds(x, y, spread))
        for x, y in enumerate(ys, start=1)
    )
    return Series("p", label, "curve", points, 3, 3, more.pop("colour", 0), "solid", **more)


def drawn(*series: Series, scale: Literal["linear", "log"] = "linear") -> Axes:
    axes = Figure().add_subplot()
    _fill(axes, Panel("p", XAxis(label="x"), YAxis(label="y", scale=scale), list(series)))
    return axes


def test_a_band_that_reaches_below_zero_goes_down_to_a_logarithmic_axis() -> None:
    axes = drawn(curve("a", [1.0, 0.1, 0.5], spread=0.2), scale="log")
    bottom, top = axes.get_ylim()
    # the least positive number is y = 0.1: of the lower ends 0.8, -0.1 and 0.3
    assert (bottom, top) == pytest.approx((0.1 / 1.5, 1.2 * 1.5))
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert np.isfinite(heights).all() and 0 < heights.min() < bottom
    # a band above zero leaves the axis to matplotlib
    assert drawn(curve("a", [1.0, 0.5], spread=0.2), scale="log").get_ylim()[0] < 0.3


def arrows(axes: Axes) -> list[float]:
    """The places along x of the arrows for numbers of zero or less."""
    marks = [line for line in axes.lines if line.get_gid() == BELOW_ZERO]
    assert all(set(line.get_ydata()) == {0.0} for line in marks)  # at the end of the axis
    return [float(x) for line in marks for x in np.asarray(line.get_xdata())]


def test_numbers_of_zero_or_less_are_marked_at_the_end_of_a_logarithmic_axis() -> None:
    bars = replace(curve("bars", [0.5, -0.1, 0.0], spread=0.2), kind="bars")
    level = Series("p", "level", "level", (Point("=", 3, 1.0, -0.05, 0.1),), 3, 3, 0, "solid")
    for series, places, ends in (
        # upper ends 0.7, 0.1 and 0.2; groups of bars are at 0, 1, 2
        (bars, [1.0, 2.0], (0.1, 0.7)),
        (curve("curve", [0.5, 0.0], spread=0.2), [2.0], (0.2, 0.7)),
        (level, [0.5], (0.05, 0.05)),  # in the middle of the axes
    ):
        axes = drawn(series, scale="log")
        assert arrows(axes) == places
        assert axes.get_ylim() == pytest.approx((ends[0] / 1.5, ends[1] * 1.5))
        assert not arrows(drawn(series))
    tops = [bar.get_y() + bar.get_height() for bar in drawn(bars, scale="log").patches]
    assert tops == pytest.approx([0.5, 0.0, 0.0]) and min(tops) > 0  # below any axis
    (lines,) = [c for c in drawn(bars, scale="log").collections if isinstance(c, LineCollection)]
    errors = lines.get_segments()
    assert [max(y for _, y in each) for each in errors] == pytest.approx([0.7, 0.1, 0.2])
    assert not arrows(drawn(curve("positive", [0.5, 0.1], spread=0.2), scale="log"))


def test_curves_that_coincide_are_told_apart() -> None:
    one, two, far = curve("one", [1.0, 2.0]), curve("two", [1.0, 2.005]), curve("far", [1.0, 3.0])
    # a line is 0.6 % of the axis wide, here of 2: 0.012
    panel = Panel("p", XAxis(label="x"), YAxis(label="y"), [one, two, far])
    assert coinciding(panel) == {two.key: "one"}
    axes = drawn(one, two, far)
    assert axes.get_legend_handles_labels()[1] == ["one", "two (on one)", "far"]
    styles = [line.get_linestyle() for line in axes.lines]
    assert styles[0] == styles[2] == "-" and styles[1] == "--"
    # another range of x is no coincidence
    assert not coinciding(replace(panel, series=[one, curve("longer", [1.0, 2.0, 3.0])]))


def test_a_rejected_fit_is_drawn_and_named_as_rejected() -> None:
    square = curve("square", [x**2 for x in range(1, 6)], spread=0.01)
    straight = curve("straight", [2.0 * x for x in range(1, 6)], spread=0.01)
    for series, rejected in ((square, True), (straight, False)):
        line = line_through([p.x for p in series.points], [p.y or 0.0 for p in series.points])
        fitted_series = with_lack_of_fit(replace(series, fit=line))
        assert fitted_series.fit and fitted_series.fit.rejected == rejected
        assert ("; fit rejected, p = " in fitted_series.legend) == rejected
        style = drawn(fitted_series).lines[-1].get_linestyle()
        assert style == (":" if rejected else "--")
    # one seed rejects nothing
    points = tuple(replace(p, by_seed=((0, Measured(p.y or 0.0)),)) for p in square.points)
    bare = replace(square, points=points)
    line = line_through([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
    found = with_lack_of_fit(replace(bare, fit=line))
    assert found.fit and not found.fit.rejected


def test_ticks_of_a_logarithmic_axis_are_the_points_and_none_overlap() -> None:
    # two methods whose kept counts differ by one weight: one label for both
    def at(xs: list[float], colour: int) -> Series:
        points = tuple(Point(str(x), 1, x, 0.5) for x in xs)
        return Series("p", f"s{colour}", "curve", points, 1, 1, colour, "solid")

    def labels(*series: Series) -> list[str]:
        axes = Figure().add_subplot()
        _fill(axes, Panel("p", XAxis(label="x", scale="log"), YAxis(label="y"), list(series)))
        axes.figure.canvas.draw()
        shown = axes.get_xticklabels() + axes.get_xticklabels(minor=True)
        boxes = [t.get_window_extent() for t in shown if t.get_text() and t.get_visible()]
        ends = sorted((box.x0, box.x1) for box in boxes)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
        return [tick.get_text() for tick in axes.get_xticklabels()]

    few = labels(at([2.0, 5.0, 20.00014, 50.0], 0), at([2.0, 5.0, 20.00015, 50.0], 1))
    assert few == ["2", "5", "20", "50"]
    # a third method reaches other densities: the labels are the points of the others
    other = at([1.9, 4.8, 19.7, 47.0, 9.0], 2)
    assert labels(at([2.0, 5.0, 20.0, 50.0], 0), at([2.0, 5.0, 20.0, 50.0], 1), other) == few
    labels(at([float(x) for x in range(2, 60, 3)], 0))  # many points: the decades alone


def test_marked_series_differ_in_marker_and_line_style() -> None:
    names = ("a", "b", "c", "d", "e", "f", "g")
    curves = [curve(name, [1.0, 2.0], colour=i) for i, name in enumerate(names)]
    reference = replace(curve("random", [0.5, 0.6], colour=6), line="dotted")
    level = Series("p", "dense", "level", (Point("=", 3, 100.0, 2.5, 0.1),), 3, 3, 0, "solid")
    axes = Figure().add_subplot()
    panel = Panel("p", XAxis(label="x"), YAxis(label="y"), [*curves, reference, level])
    _fill(axes, panel, Look(marked=True))
    *own, dotted, flat = axes.lines
    # each differs from every other in the marker, neighbours in the style, too
    assert len({line.get_marker() for line in own}) == len(names)
    styles = [str(line._unscaled_dash_pattern) for line in own]  # type: ignore[attr-defined]
    assert all(a != b for a, b in itertools.pairwise(styles)) and len(set(styles)) == 6
    assert (dotted.get_marker(), dotted.get_linestyle()) == ("", ":")
    assert list(flat.get_ydata()) == [2.5, 2.5]  # at the mean, along the whole axis
    # curves on top of each other are told apart by their markers, without a word in the legend
    assert axes.get_legend_handles_labels()[1] == [*names, "random", "dense"]
