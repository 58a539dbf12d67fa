"""Scales, ticks, horizontal lines and the legend of a panel, drawn with matplotlib."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from runner.suites.schema_figures import Axis, YAxis

TICKS = 8  # maximum number of points that are the ticks of a logarithmic axis
# characters of the longest entry of a legend per inch of the panel's width: three columns below the
# first number, two below the second
LABEL, LONG = 18 / 5.2, 36 / 5.2
BELOW = 0.55  # inches between axes and legend, for ticks and the label
Style: TypeAlias = dict[str, Any]  # keyword arguments and settings of matplotlib
MARK: Style = {
    "linewidth": 1.0,
    "linestyle": "dotted",
    "color": "#444444",
    "zorder": 0,
}
TINY = 1e-300  # below every logarithmic axis
BELOW_ZERO = "below-zero"  # id of the arrows in an SVG
LEVELS = ("dashed", "dotted", "dashdot")  # styles of horizontal lines with different labels


def scale(axes: Any, name: str, axis: Axis, drawn: bool) -> None:
    """Set label, scale and range of the axis `name` (x or y); an empty panel stays linear."""
    getattr(axes, f"set_{name}label")(axis.label)
    if axis.scale != "linear" and drawn:
        options = {} if axis.linthresh is None else {"linthresh": axis.linthresh}
        getattr(axes, f"set_{name}scale")(axis.scale, **options)
    if axis.range:
        getattr(axes, f"set_{name}lim")(*axis.range)


def on_axis(axes: Any, heights: Sequence[float]) -> list[float]:
    """Heights as they are drawn; on a logarithmic axis, those that are not positive at its end."""
    log = axes.get_yscale() == "log"
    return [height if height > 0 or not log else TINY for height in heights]


def mark_below(axes: Any, places: Sequence[float], colour: str, across: bool = False) -> None:
    """Mark numbers that are not positive by arrows at the end of a logarithmic axis.

    Args:
        places: along x, of the data; with `across` of the width of the axes.
    """
    if axes.get_yscale() != "log" or not places:
        return
    (line,) = axes.plot(
        places,
        [0.0] * len(places),
        transform=axes.transAxes if across else axes.get_xaxis_transform(),
        linestyle="none",
        marker=11,  # a caret whose tip is at the place
        markersize=7,
        color=colour,
        clip_on=False,
        zorder=5,
    )
    line.set_gid(BELOW_ZERO)


def log_ticks(axes: Any, curves: Iterable[Iterable[float]]) -> None:
    """Label each of few points, or those that curves share, to three digits; else the decades."""
    shared = Counter(x for curve in curves for x in {float(f"{x:.3g}") for x in curve})
    every, common = sorted(shared), sorted(x for x, number in shared.items() if number > 1)
    few = every if len(every) <= TICKS else common
    if 0 < len(few) <= TICKS:
        axes.set_xticks(few, [f"{x:g}" for x in few])
        axes.set_xticks([], minor=True)
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def draw_levels(axes: Any, y: YAxis) -> None:
    """Draw the horizontal lines; those of one label share a style and an entry of the legend."""
    for number, levels in enumerate(y.levels):
        style = MARK | {"linestyle": LEVELS[number % len(LEVELS)]}
        for i, height in enumerate(levels.at):
            axes.axhline(height, **style, **({"label": levels.label} if i == 0 else {}))


def draw_legend(axes: Any, widest: int, width: float) -> None:
    """Draw the legend below the axes, where it covers nothing; its columns are filled first.

    Args:
        widest: characters of its longest entry.
        width: of the panel in inches.
    """
    if not axes.get_legend_handles_labels()[0]:  # the colour bar has the name of a phase diagram
        return
    from matplotlib.transforms import offset_copy

    below = offset_copy(axes.transAxes, axes.figure, y=-BELOW, units="inches")
    per_inch = widest / width
    columns = 3 if per_inch < LABEL else 2 if per_inch < LONG else 1
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=below,
        borderaxespad=0.0,
        ncols=columns,
        frameon=False,
    )
