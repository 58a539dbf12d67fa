"""Schema of the series of figures. runner/figures/series.py turns their runs into points.

A series has overrides for its runs and a kind (`draw`), which defines what is read: fields of the
record or of its report, or lists of series.json. `history.KEY` is the list of KEY (epoch, lr,
train_loss, test_loss, accuracy, val_accuracy) over the run's last training (metrics.jsonl).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from runner.config.typed import build, coerce, excerpt
from runner.errors import ConfigError, one_of
from runner.suites.schema import Item, Names, Overrides

Fit = Literal["linear", "power"]
LineStyle = Literal["solid", "dashed", "dotted", "dashdot"]


@dataclass(frozen=True)
class Points:
    """The points of a series: name -> overrides.

    In YAML `{KEY: [VALUE, ...]}`, where several keys form a grid; or `{NAME: {VALUE: [overrides],
    ...}}` for points with arbitrary overrides, named NAME=VALUE.
    """

    overrides: Mapping[str, Overrides]

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Points":
        """Build points from either form."""
        if not isinstance(value, dict) or not value:
            raise ConfigError(
                f"{key}={excerpt(value)} must be a mapping: {{KEY: [VALUE, ...]}} or {{NAME:"
                " {VALUE: [overrides]}}"
            )
        if len(value) == 1 and isinstance(first := next(iter(value.values())), dict):
            kind = next(iter(value))
            return cls(
                {
                    f"{kind}={name}": coerce(each, Overrides, f"{key}.{kind}.{name}")
                    for name, each in first.items()
                }
            )
        for name, values in value.items():
            if not isinstance(values, list):
                raise ConfigError(f"{key}.{name}={excerpt(values)} must be a list of values")
        grid = (
            tuple(f"{name}={v}" for name, v in zip(value, values, strict=True))
            for values in product(*value.values())
        )
        return cls({" ".join(overrides): overrides for overrides in grid})


ONE_POINT = Points({"=": ()})  # for a series without points


# --- kinds of series


@dataclass(frozen=True, kw_only=True)
class SeriesSpec(Item):
    """A series of a panel. Each kind (`draw`) is a class with the keys that it reads from runs.

    Args:
        points: points that replace those of the panel.
        colour: number of its colour; by default its position in the panel.
        checked: whether the legend states how many runs have no convergence check of what is drawn.
        ran: as in a row of runner/suites/schema_tables.py.
    """

    overrides: Overrides
    draw: str = "curve"
    points: Points | None = None
    colour: int | None = None
    line: LineStyle = "solid"
    checked: bool = False
    ran: str = ""

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "SeriesSpec":
        """Build the kind of series that `draw` names."""
        kind = value.get("draw", "curve") if isinstance(value, dict) else ""
        if kind not in KINDS:
            raise ConfigError(
                one_of(f"{key}.draw", kind, KINDS)
                if kind
                else f"{key}={excerpt(value)} must be a mapping"
            )
        return build(KINDS[kind], value, key)

    @property
    def reads(self) -> Names:
        """The keys of x and y that a run may lack."""
        return ()

    @property
    def fitted(self) -> Fit | None:
        """The kind of line that is fitted to its points."""
        return None


@dataclass(frozen=True, kw_only=True)
class CurveSpec(SeriesSpec):
    """One number per run; each point is drawn as mean and deviation over seeds.

    Args:
        y: the key that is read; `accuracy` is the accuracy that `table.metric` chooses.
        item: index of the number, if the key is a list.
        spread: key of the deviation over the trials of a single run.
        fit: least-squares line, with R2 in the legend; `power` fits the logarithms.
    """

    y: str
    item: int | None = None
    spread: str | None = None
    fit: Fit | None = None

    @property
    def reads(self) -> Names:
        """The key of y."""
        return (self.y,)

    @property
    def fitted(self) -> Fit | None:
        """The kind of line in `fit`."""
        return self.fit


@dataclass(frozen=True, kw_only=True)
class BarsSpec(CurveSpec):
    """The same numbers as bars side by side, labelled by the point."""


@dataclass(frozen=True, kw_only=True)
class LevelSpec(CurveSpec):
    """The same number as a horizontal line, for one point: a net that has no place along x."""


@dataclass(frozen=True, kw_only=True)
class TraceSpec(SeriesSpec):
    """A curve over lists of a run: x and y are keys of lists.

    Args:
        spread: key of the list of deviations over the trials of a single run.
        fit: as in a curve.
    """

    x: str
    y: str
    spread: str | None = None
    fit: Fit | None = None

    @property
    def reads(self) -> Names:
        """The keys of x and y."""
        return self.x, self.y

    @property
    def fitted(self) -> Fit | None:
        """The kind of line in `fit`."""
        return self.fit


@dataclass(frozen=True, kw_only=True)
class HistogramSpec(SeriesSpec):
    """A histogram; x is the key of the n + 1 edges, y of the n heights."""

    x: str
    y: str

    @property
    def reads(self) -> Names:
        """The keys of x and y."""
        return self.x, self.y


@dataclass(frozen=True, kw_only=True)
class MarkSpec(SeriesSpec):
    """A vertical line at `times` * x + `plus`. `item`: index of the number, if x is a list."""

    x: str
    item: int | None = None
    times: float = 1
    plus: float = 0

    @property
    def reads(self) -> Names:
        """The key of x."""
        return (self.x,)


@dataclass(frozen=True, kw_only=True)
class HeatSpec(SeriesSpec):
    """Cells of a phase diagram: a run's `value` (0 black, 1 white) at the keys of both axes."""

    value: str


@dataclass(frozen=True, kw_only=True)
class BoundarySpec(SeriesSpec):
    """The boundary in a phase diagram, a line: for each x, the y at which `value` is one half."""

    value: str


KINDS: Mapping[str, type[SeriesSpec]] = {
    "curve": CurveSpec,
    "bars": BarsSpec,
    "level": LevelSpec,
    "trace": TraceSpec,
    "histogram": HistogramSpec,
    "mark": MarkSpec,
    "heat": HeatSpec,
    "boundary": BoundarySpec,
}
