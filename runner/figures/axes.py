"""Scales and ticks of a panel's axes, drawn with matplotlib."""

from collections.abc import Iterable
from typing import Any

from runner.suites.schema_figures import Axis

TICKS = 8  # maximum number of points that are the ticks of a logarithmic axis


def scale(axes: Any, name: str, axis: Axis, drawn: bool) -> None:
    """Set label, scale and range of the axis `name` (x or y); an empty panel stays linear."""
    getattr(axes, f"set_{name}label")(axis.label)
    if axis.scale != "linear" and drawn:
        options = {} if axis.linthresh is None else {"linthresh": axis.linthresh}
        getattr(axes, f"set_{name}scale")(axis.scale, **options)
    if axis.range:
        getattr(axes, f"set_{name}lim")(*axis.range)


def log_ticks(axes: Any, places: Iterable[float]) -> None:
    """Label each of few points, to three digits, or else the decades alone."""
    few = sorted({float(f"{x:.3g}") for x in places})
    if 0 < len(few) <= TICKS:
        axes.set_xticks(few, [f"{x:g}" for x in few])
        axes.set_xticks([], minor=True)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
