"""Draw the series of a figure with matplotlib, without a window.

The same numbers give the same bytes: SVG and PDF files have no dates and no random names.
"""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.figures.axes import (
    MARK,
    Style,
    draw_legend,
    draw_levels,
    log_ticks,
    mark_below,
    on_axis,
    scale,
)
from runner.figures.points import Series
from runner.suites.schema_figures import Look, XAxis, YAxis

ENDINGS = ("svg", "pdf", "png")
# Okabe and Ito's colours, which colour-blind readers can distinguish. Yellow is omitted: it is too
# pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TITLE, CAPTION = "title", "caption"  # ids of groups of an SVG
LETTERS = 17  # characters of the caption per inch
LINE = 0.14  # inches per line of the caption
SETTINGS: Style = {
    "svg.hashsalt": "winnow",  # otherwise the names of clip paths are random
    "svg.fonttype": "none",  # text stays text: small, searchable, and read aloud
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # the first ships with matplotlib
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 9,
}
# of the series of a panel with `look.marked`
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h")
STYLES: tuple[Any, ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (5, 1, 1, 1)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
CURVES = ("curve", "trace")  # kinds of series that are lines through their points
WITH_BANDS = (*CURVES, "bars", "level")  # kinds whose points have a height and a deviation
COINCIDE = 0.006  # of the axis: the width of a line
# A curve on top of another one, which stays visible between the dashes and around the markers.
ON_TOP: Style = {"linestyle": (0, (3, 3)), "markerfacecolor": "none", "markersize": 7}
# A fitted line that the points are not on.
REJECTED: Style = {"linestyle": "dotted", "linewidth": 1.0, "alpha": 0.5}
METADATA: dict[str, Style] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}

DEFAULT = Look()


@dataclass(frozen=True)
class Panel:
    """The axes of a panel and its series."""

    label: str
    x: XAxis
    y: YAxis
    series: list[Series]


def draw(
    title: str, panels: list[Panel], notes: list[str], look: Look, ending: str, path: Path
) -> None:
    """Write the picture to `path` in the format `ending`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "figures need matplotlib, which is not installed:"
            " pip install -e '.[figures]', or make setup"
        ) from error
    columns = min(len(panels), look.columns)
    rows = -(-len(panels) // columns)
    width = max(columns, 1.4) * look.size[0]
    # Matplotlib's defaults replace the style of the user.
    defaults = dict[str, Any](mpl.rcParamsDefault)  # type: ignore[arg-type]
    with mpl.rc_context(defaults | SETTINGS | {"backend": "agg"}):  # type: ignore[arg-type]
        caption = "\n".join(textwrap.fill(note, int(LETTERS * width)) for note in notes)
        height = rows * look.size[1] + 0.5 + LINE * (caption.count("\n") + 1)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        heading = figure.suptitle(textwrap.fill(title, int(8.5 * width)), fontsize=12)
        below = figure.supxlabel(caption, fontsize=7.5, x=0.01, ha="left", color="#444444")
        heading.set_gid(TITLE)
        below.set_gid(CAPTION)
        for place, panel in enumerate(panels, start=1):
            _fill(figure.add_subplot(rows, columns, place), panel, look)
        figure.savefig(path, format=ending, dpi=150, metadata=METADATA[ending])


def _fill(axes: Any, panel: Panel, look: Look = DEFAULT) -> None:
    """Draw one panel."""
    axes.set_title(panel.label, fontsize=10.5)
    for name, axis in (("x", panel.x), ("y", panel.y)):
        scale(axes, name, axis, any(series.points for series in panel.series))
    bars = [series for series in panel.series if series.kind == "bars"]
    on_top = {} if look.marked else coinciding(panel)
    for place, series in enumerate(panel.series):
        below = on_top.get(series.key)
        legend = series.legend + (f" (on {below})" if below else "")
        style = {"color": COLOURS[series.colour % len(COLOURS)], "label": legend}
        style |= ON_TOP if below else {}
        style |= _own(place, series) if look.marked else {}
        if not series.points:
            axes.plot([], [], linestyle="none", marker="x", **style)
        elif series.kind == "bars":
            _bars(axes, series, style, bars)
        else:
            KINDS[series.kind](axes, series, style)
        if series.fit:
            _fitted(axes, series, style["color"])
    if mark := panel.x.mark:
        axes.axvline(mark.at, label=mark.label, **MARK)
    draw_levels(axes, panel.y)
    _end_at_data(axes, panel)
    curves = [series for series in panel.series if series.kind in CURVES]
    if panel.x.scale == "log":
        log_ticks(axes, [[point.x for point in series.points] for series in curves])
    labels = [*axes.get_legend_handles_labels()[1], mark.label if mark else ""]
    labels += [levels.label for levels in panel.y.levels]
    draw_legend(axes, max(map(len, labels)), look.size[0])


def _own(place: int, series: Series) -> Style:
    """A marker and a line style by its place in the panel; no marker with a line of its own."""
    if series.kind not in CURVES:
        return {}
    if series.line != "solid":
        return {"marker": ""}
    shape = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
    own = {"marker": MARKERS[place % len(MARKERS)], "linestyle": STYLES[place % len(STYLES)]}
    return shape | own


def _curve(axes: Any, series: Series, style: Style) -> None:
    """Draw means, with a band of one standard deviation where points have a spread."""
    points = sorted(series.points, key=lambda p: p.x)
    x, y = [p.x for p in points], [p.y or 0.0 for p in points]
    spread = [p.spread or 0.0 for p in points]
    marker = {"marker": "o", "markersize": 3.5} if series.kind == "curve" else {}
    axes.plot(x, y, **{"linestyle": series.line, "linewidth": 1.6, **marker, **style})
    low, high = ([a + sign * s for a, s in zip(y, spread, strict=True)] for sign in (-1, 1))
    low, high = on_axis(axes, low), on_axis(axes, high)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.18, lw=0)
    mark_below(axes, [a for a, b in zip(x, y, strict=True) if b <= 0], style["color"])


def _end_at_data(axes: Any, panel: Panel) -> None:
    """End a logarithmic axis close to the positive numbers, if a number or a band is below them."""
    bands = [
        (p.y - (p.spread or 0.0), p.y, p.y + (p.spread or 0.0))
        for series in panel.series
        if series.kind in WITH_BANDS
        for p in series.points
        if p.y is not None
    ]
    if panel.y.scale != "log" or panel.y.range or all(low > 0 for low, _, _ in bands):
        return
    fixed = [height for levels in panel.y.levels for height in levels.at]
    positive = [value for band in (*bands, fixed) for value in band if value > 0]
    if positive:
        axes.set_ylim(min(positive) / 1.5, max(positive) * 1.5)


def coinciding(panel: Panel) -> dict[tuple[str, str], str]:
    """The series that are drawn on an earlier one: their keys -> its name.

    Curves coincide if they have the same points along x and differ by less than the width of a line
    in y.
    """
    curves = [series for series in panel.series if series.kind in CURVES and series.points]
    log = panel.y.scale == "log"
    heights = {series.key: _heights(series, log) for series in curves}
    known = [height for each in heights.values() for height in each.values()]
    near = COINCIDE * (max(known) - min(known)) if known else 0.0
    found: dict[tuple[str, str], str] = {}
    for i, series in enumerate(curves):
        own = heights[series.key]
        for other in curves[:i]:
            theirs = heights[other.key]
            if own.keys() == theirs.keys() and all(abs(own[x] - theirs[x]) <= near for x in own):
                found[series.key] = other.label
                break
    return found


def _heights(series: Series, log: bool) -> dict[float, float]:
    """x -> y as it is drawn; on a logarithmic axis, positive numbers alone."""
    drawn = {p.x: p.y or 0.0 for p in series.points}
    return {x: math.log(y) for x, y in drawn.items() if y > 0} if log else drawn


def _steps(axes: Any, series: Series, style: Style) -> None:
    """Draw a histogram as filled steps."""
    heights = [p.y for p in series.points]
    edges = [*(p.x for p in series.points), series.points[-1].x_end]
    axes.stairs(heights, edges, color=style["color"], alpha=0.14, fill=True)
    axes.stairs(heights, edges, linewidth=1.5, linestyle=series.line, **style)


def _line(axes: Any, series: Series, style: Style) -> None:
    axes.axvline(series.points[0].x, linewidth=2.2, linestyle=series.line, **style)


def _bars(axes: Any, series: Series, style: Style, bars: list[Series]) -> None:
    """Draw one group of bars per point name; a series has the same position in every group."""
    names = list(dict.fromkeys(p.name for other in bars for p in other.points))
    width = 0.8 / len(bars)
    offset = (bars.index(series) - (len(bars) - 1) / 2) * width
    x = [names.index(p.name) + offset for p in series.points]
    y, spread = [p.y or 0.0 for p in series.points], [p.spread or 0.0 for p in series.points]
    heights, low, high = (
        on_axis(axes, [a + sign * s for a, s in zip(y, spread, strict=True)]) for sign in (0, -1, 1)
    )
    # lengths of the error bars below and above
    errors = [[h - b for h, b in zip(heights, low, strict=True)]]
    errors += [[b - h for h, b in zip(heights, high, strict=True)]]
    axes.bar(x, heights, width, yerr=errors if any(spread) else None, capsize=3, **style)
    mark_below(axes, [at for at, height in zip(x, y, strict=True) if height <= 0], style["color"])
    axes.set_xticks(range(len(names)), [name.partition("=")[2] or series.label for name in names])


def _heat(axes: Any, series: Series, style: Style) -> None:
    """Draw the cells of a grid, from black (0) to white (1); cells without runs are left empty."""
    xs, ys = sorted({p.x for p in series.points}), sorted({p.y or 0.0 for p in series.points})
    known = {(p.x, p.y): p.value for p in reversed(series.points)}
    values = [[known.get((x, y), float("nan")) for x in xs] for y in ys]
    mesh = axes.pcolormesh(xs, ys, values, cmap="gray", vmin=0.0, vmax=1.0, shading="nearest")
    axes.grid(False)
    axes.set_facecolor("#d7e3f4")
    axes.figure.colorbar(mesh, ax=axes, label=series.legend)


def _crossed(axes: Any, series: Series, style: Style) -> None:
    """Draw the points at which cells pass one half."""
    x, y = [p.x for p in series.points], [p.y for p in series.points]
    marker = {"marker": "o", "markersize": 4.5, "markeredgecolor": "white"}
    axes.plot(x, y, linestyle="none", **marker, **style)


def _fitted(axes: Any, series: Series, colour: str) -> None:
    """Draw the least-squares line over the range of the points."""
    assert series.fit is not None
    low, high = min(p.x for p in series.points), max(p.x for p in series.points)
    if low > 0:
        x = [low * (high / low) ** (i / 40) for i in range(41)]
    else:
        x = [low + (high - low) * i / 40 for i in range(41)]
    y = [series.fit.at(value) for value in x]
    style = REJECTED if series.fit.rejected else {"linestyle": "dashed", "linewidth": 1.3}
    axes.plot(x, y, color=colour, **style)


def _level(axes: Any, series: Series, style: Style) -> None:
    """Draw a mean as a horizontal line, with a band of one standard deviation."""
    (point,) = series.points
    y, spread = point.y or 0.0, point.spread or 0.0
    (height, low, high) = on_axis(axes, [y, y - spread, y + spread])
    axes.axhline(height, **MARK | {"linestyle": "solid"}, label=style["label"])
    axes.axhspan(low, high, color=MARK["color"], alpha=0.12, lw=0)
    mark_below(axes, [0.5] if y <= 0 else [], MARK["color"], across=True)


KINDS: dict[str, Callable[..., None]] = {
    "histogram": _steps,
    "mark": _line,
    "curve": _curve,
    "trace": _curve,
    "level": _level,
    "heat": _heat,
    "boundary": _crossed,
}
