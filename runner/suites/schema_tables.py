"""Schema of the table layouts, each with the keys that only it has.

The matrix and blocks layouts are in schema_blocks.py. layouts.py lays out the tables.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from runner.suites.schema import (
    Finding,
    Item,
    Names,
    Overrides,
    TableSpec,
    TableVariant,
    When,
    whens,
)

AxisName = Literal["network", "density", "method"]

# --- a row for each method, several metrics for each network


@dataclass(frozen=True, kw_only=True)
class Row(Item):
    """A method.

    Args:
        density: one per network of the table; empty for a method without a density.
        ran: a reading (runner/suites/readings.py) whose value is the number in the label; a short
            schedule changes it, and the label is printed with what ran.
    """

    overrides: Overrides
    density: tuple[float, ...] = ()
    ran: str = ""
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NetworksTable(TableSpec):
    """Layout `networks`, of the IMC paper: one row per method, several metrics per network.

    Args:
        metrics: names in runner/suites/metrics.py.
        best_of: id of a row -> densities, of which the best is printed.
    """

    metrics: Names
    rows: tuple[Row, ...]
    best_of: dict[str, tuple[float, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def method_refs(self) -> list[str]:
        """The ids of the rows."""
        return [row.ref for row in self.rows]

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line: method and network."""
        return "method", "architecture"

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        yield from whens(rows=self.rows)


# --- one number an entry, axes along rows and columns


@dataclass(frozen=True, kw_only=True)
class GridPanel(Item):
    """A data set. `paper`: its name in the paper's CSV."""

    paper: str
    overrides: Overrides


@dataclass(frozen=True, kw_only=True)
class GridMethod(Item):
    """A method. `paper`: method and variant in the paper's CSV; by default label and no variant."""

    overrides: Overrides
    paper: tuple[str, str] | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GridVariant(TableVariant):
    """A variant of a grid."""

    panels: tuple[GridPanel, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class GridTable(TableSpec):
    """Layout `grid`, of the sketching paper: panels one below the other.

    Args:
        rows, columns: the axes along each side. Network, density and method each appear once.
    """

    adds_rules: ClassVar[bool] = True
    panels: tuple[GridPanel, ...]
    methods: tuple[GridMethod, ...]
    densities: tuple[float, ...]
    rows: tuple[AxisName, ...]
    columns: tuple[AxisName, ...]
    variants: Mapping[str, GridVariant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for missing or duplicate axes."""
        if sorted((*self.rows, *self.columns)) != ["density", "method", "network"]:
            raise ValueError(
                f"rows={list(self.rows)} and columns={list(self.columns)} must be network, density"
                " and method, each once"
            )

    @property
    def panel_refs(self) -> list[str]:
        """The ids of the data sets."""
        return [panel.ref for panel in self.panels]

    @property
    def method_refs(self) -> list[str]:
        """The ids of the methods."""
        return [method.ref for method in self.methods]

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line."""
        return "dataset", "architecture", "method", "variant", "density"

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        yield from whens(methods=self.methods)


# --- hyper-parameters, read from the configuration


@dataclass(frozen=True, kw_only=True)
class SettingRow(Item):
    """A hyper-parameter.

    Args:
        reads: its key in the configuration.
        under: sets of overrides; the value is read once under each set.
    """

    reads: str
    under: tuple[Overrides, ...] = ((),)
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SettingsTable(TableSpec):
    """Layout `settings`: one line per hyper-parameter, in groups; nothing is run."""

    groups: tuple[tuple[SettingRow, ...], ...]

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line."""
        return ("parameter",)

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        for i, group in enumerate(self.groups):
            yield from ((f"groups.{i}.{key}", when) for key, when in whens(rows=group))
