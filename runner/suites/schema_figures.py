"""What the YAML of a figure may say, as frozen dataclasses. runner/figures/series.py turns the runs behind a series into points.

A series has overrides, which make its runs, and a kind (`draw`), which says what is read of them. What is read: a field of the record, of its report, or a
list of series.json; `history.KEY` is the list of KEY over the epochs of the run's last training (metrics.jsonl): epoch, lr, train_loss, test_loss, accuracy,
val_accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, Literal

from runner.config.typed import build, coerce, excerpt
from runner.errors import ConfigError, one_of
from runner.suites.schema import Item, SuiteSpec, Variant, Words
from runner.suites.schema_claims import FigureClaim

Scale = Literal["linear", "log", "symlog"]
Fit = Literal["linear", "power"]
LineStyle = Literal["solid", "dashed", "dotted", "dashdot"]


@dataclass(frozen=True)
class Points:
    """The points of a series: name -> overrides.

    In YAML `{KEY: [VALUE, ...]}`, of several keys a grid; or `{WORDS: {VALUE: [overrides], ...}}` for what is no key: the words name the points.
    """

    overrides: Mapping[str, Words]

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Points":
        """Of one of the two forms."""
        if not isinstance(value, dict) or not value:
            raise ConfigError(f"{key}={excerpt(value)} must be a mapping: {{KEY: [VALUE, ...]}} or {{WORDS: {{VALUE: [overrides]}}}}")
        if len(value) == 1 and isinstance(first := next(iter(value.values())), dict):
            words = next(iter(value))
            return cls({f"{words}={name}": coerce(each, Words, f"{key}.{words}.{name}") for name, each in first.items()})
        for name, values in value.items():
            if not isinstance(values, list):
                raise ConfigError(f"{key}.{name}={excerpt(values)} must be a list of values")
        grid = (tuple(f"{name}={v}" for name, v in zip(value, values, strict=True)) for values in product(*value.values()))
        return cls({" ".join(words): words for words in grid})


ONE_POINT = Points({"=": ()})  # of a series without points: made by its own overrides


# --- axes


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a panel.

    Args:
        key: what stands along it, of the record; without one the value in the point's name.
        power, times: (key)^power times `times`.
        linthresh: of a symlog scale, where its linear part ends.
        range: its ends.
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
    """A thin vertical line that belongs to no run."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class XAxis(Axis):
    """The horizontal axis of a panel."""

    mark: AxisMark | None = None


# --- series


@dataclass(frozen=True, kw_only=True)
class SeriesSpec(Item):
    """A series of a panel. Each kind is a class, by its `draw`, with what it reads of the runs.

    Args:
        points: its own, instead of those of its panel.
        colour: number of its colour; without one its place in the panel.
    """

    overrides: Words
    draw: str = "curve"
    points: Points | None = None
    colour: int | None = None
    line: LineStyle = "solid"

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "SeriesSpec":
        """The series of the kind that its `draw` names."""
        kind = value.get("draw", "curve") if isinstance(value, dict) else ""
        if kind not in KINDS:
            raise ConfigError(one_of(f"{key}.draw", kind, KINDS) if kind else f"{key}={excerpt(value)} must be a mapping")
        return build(KINDS[kind], value, key)

    @property
    def reads(self) -> Words:
        """Keys of lists that a run may lack: its x and y."""
        return ()

    @property
    def fitted(self) -> Fit | None:
        """The line that is drawn through its points."""
        return None


@dataclass(frozen=True, kw_only=True)
class CurveSpec(SeriesSpec):
    """A point for each of its points: a number of each run, mean and deviation over seeds.

    Args:
        y: what is read; `accuracy` is the one that `table.metric` chooses.
        item: which number, of a list.
        spread: of one run, the deviation over its own trials.
        fit: a least-squares line, drawn and named with its R2; `power`: of the logarithms.
    """

    y: str
    item: int | None = None
    spread: str | None = None
    fit: Fit | None = None

    @property
    def reads(self) -> Words:
        """Its y."""
        return (self.y,)

    @property
    def fitted(self) -> Fit | None:
        """What `fit` says."""
        return self.fit


@dataclass(frozen=True, kw_only=True)
class BarsSpec(CurveSpec):
    """The same side by side, named by the point."""


@dataclass(frozen=True, kw_only=True)
class TraceSpec(SeriesSpec):
    """Arrays of one run: x and y are lists."""

    x: str
    y: str
    fit: Fit | None = None

    @property
    def reads(self) -> Words:
        """Its x and y."""
        return self.x, self.y

    @property
    def fitted(self) -> Fit | None:
        """What `fit` says."""
        return self.fit


@dataclass(frozen=True, kw_only=True)
class HistogramSpec(SeriesSpec):
    """x: edges (n + 1), y: heights (n), both lists."""

    x: str
    y: str

    @property
    def reads(self) -> Words:
        """Its x and y."""
        return self.x, self.y


@dataclass(frozen=True, kw_only=True)
class MarkSpec(SeriesSpec):
    """A vertical line at x, times `times` plus `plus`. `item`: which number, of a list."""

    x: str
    item: int | None = None
    times: float = 1
    plus: float = 0

    @property
    def reads(self) -> Words:
        """Its x."""
        return (self.x,)


@dataclass(frozen=True, kw_only=True)
class HeatSpec(SeriesSpec):
    """Cells of a phase diagram: a run's `value` (0 black, 1 white) at the keys of both axes."""

    value: str


@dataclass(frozen=True, kw_only=True)
class BoundarySpec(SeriesSpec):
    """Of such cells: for each x, the y where `value` passes one half. Its line is linear unless `fit` says otherwise."""

    value: str
    fit: Fit = "linear"

    @property
    def fitted(self) -> Fit | None:
        """What `fit` says."""
        return self.fit


KINDS: Mapping[str, type[SeriesSpec]] = {
    "curve": CurveSpec,
    "bars": BarsSpec,
    "trace": TraceSpec,
    "histogram": HistogramSpec,
    "mark": MarkSpec,
    "heat": HeatSpec,
    "boundary": BoundarySpec,
}


@dataclass(frozen=True, kw_only=True)
class FigurePanel(Item):
    """Axes and what is drawn into them. `networks`: printed names of those that it shows; all without it."""

    x: XAxis
    y: Axis
    series: tuple[SeriesSpec, ...]
    networks: Words | None = None
    overrides: Words = ()
    points: Points | None = None

    def networks_of(self, networks: Mapping[str, str]) -> dict[str, str]:
        """Those of the figure's networks that it shows."""
        return {name: model for name, model in networks.items() if self.networks is None or name in self.networks}

    def points_of(self, series: SeriesSpec) -> Mapping[str, Words]:
        """The points of one of its series: name -> overrides."""
        return (series.points or self.points or ONE_POINT).overrides

    def names(self, networks: Mapping[str, str]) -> list[tuple[SeriesSpec, str, str]]:
        """Its series on each network that it shows, with that network and what is added to label and id where there are several."""
        shown = self.networks_of(networks)
        return [(series, name, f", {name}" if len(shown) > 1 else "") for series in self.series for name in shown]


# --- the figure


@dataclass(frozen=True, kw_only=True)
class FigureVariant(Variant):
    """A variant of a figure."""

    panels: tuple[FigurePanel, ...] | None = None
    claims: tuple[FigureClaim, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FigureSpec(SuiteSpec):
    """A figure. `what`: what the paper calls it."""

    drawn: ClassVar[bool] = True
    panels: tuple[FigurePanel, ...]
    what: str = "Figure"
    notes: Words = ()
    claims: tuple[FigureClaim, ...] = ()
    elsewhere: Mapping[str, FigureVariant] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the paper calls it."""
        return self.what

    @property
    def panel_refs(self) -> list[str]:
        """Ids of the panels."""
        return [panel.ref for panel in self.panels]

    @property
    def method_refs(self) -> list[str]:
        """Ids of the series."""
        return [series.ref for panel in self.panels for series in panel.series]
