"""Schema of figures: their panels, each with axes and series (schema_series.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from runner.suites.schema import Item, Names, Overrides, SuiteSpec, Variant
from runner.suites.schema_claims import FigureClaim
from runner.suites.schema_series import ONE_POINT, Points, SeriesSpec

Scale = Literal["linear", "log", "symlog"]


# --- axes


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a panel.

    Args:
        key: field of the record along the axis; by default the value in the point's name.
        power, times: the coordinate is `times` * key^power.
        linthresh: end of the linear part of a symlog scale.
        range: lower and upper end.
    """

    label: str
    key: str | None = None
    power: float | None = None
    times: float = 1
    scale: Scale = "linear"
    linthresh: float | None = None
    range: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class AxisMark:
    """A thin vertical line at a fixed position."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class XAxis(Axis):
    """The horizontal axis of a panel.

    Args:
        ran: a reading (runner/suites/readings.py) of a point's run, in place of the value in its
            name: what ran, which a short schedule makes smaller.
    """

    ran: str = ""
    mark: AxisMark | None = None


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Thin horizontal lines at fixed heights, with one entry in the legend."""

    at: tuple[float, ...]
    label: str


@dataclass(frozen=True, kw_only=True)
class YAxis(Axis):
    """The vertical axis of a panel."""

    levels: tuple[Levels, ...] = ()


# --- panels


@dataclass(frozen=True, kw_only=True)
class FigurePanel(Item):
    """Axes and their series.

    Args:
        networks: printed names of the networks shown; by default all.
        seeds: its own seeds; by default those of the figure.
    """

    x: XAxis
    y: YAxis
    series: tuple[SeriesSpec, ...]
    networks: Names | None = None
    overrides: Overrides = ()
    points: Points | None = None
    seeds: tuple[int, ...] = ()

    def networks_of(self, networks: Mapping[str, str]) -> dict[str, str]:
        """The networks of the figure that the panel shows."""
        return {
            name: model
            for name, model in networks.items()
            if self.networks is None or name in self.networks
        }

    def points_of(self, series: SeriesSpec) -> Mapping[str, Overrides]:
        """The points of one of the panel's series: name -> overrides."""
        return (series.points or self.points or ONE_POINT).overrides

    def names(self, networks: Mapping[str, str]) -> list[tuple[SeriesSpec, str, str]]:
        """Triples (series, network, suffix of label and id); no suffix if one network is shown."""
        shown = self.networks_of(networks)
        return [
            (series, name, f", {name}" if len(shown) > 1 else "")
            for series in self.series
            for name in shown
        ]


# --- the figure


@dataclass(frozen=True, kw_only=True)
class FigureVariant(Variant):
    """A variant of a figure."""

    panels: tuple[FigurePanel, ...] | None = None
    claims: tuple[FigureClaim, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FigureSpec(SuiteSpec):
    """A figure. `what`: the word before its number, as in the paper."""

    drawn: ClassVar[bool] = True
    panels: tuple[FigurePanel, ...]
    what: str = "Figure"
    claims: tuple[FigureClaim, ...] = ()
    variants: Mapping[str, FigureVariant] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The word before its number, as in the paper."""
        return self.what

    @property
    def panel_refs(self) -> list[str]:
        """The ids of the panels."""
        return [panel.ref for panel in self.panels]

    @property
    def method_refs(self) -> list[str]:
        """The ids of the series."""
        return [series.ref for panel in self.panels for series in panel.series]
