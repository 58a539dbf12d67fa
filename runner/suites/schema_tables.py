"""Layouts of tables as frozen dataclasses, each with the keys of that layout alone; matrix and blocks are in schema_blocks.py. layouts.py lays them out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from runner.suites.schema import Finding, Item, TableSpec, TableVariant, When, Words, whens

AxisName = Literal["network", "density", "method"]

# --- a row for each method, several metrics for each network


@dataclass(frozen=True, kw_only=True)
class Row(Item):
    """A method. `density`: one for each network of the table; none for a method that takes none."""

    overrides: Words
    density: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NetworksTable(TableSpec):
    """Layout of the IMC paper: a row for each method, several metrics for each network.

    Args:
        metrics: names of runner/suites/metrics.py.
        best_of: id of a row -> densities, of which the best is printed.
    """

    metrics: Words
    rows: tuple[Row, ...]
    best_of: dict[str, tuple[float, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def method_refs(self) -> list[str]:
        """Ids of the rows."""
        return [row.ref for row in self.rows]

    @property
    def paper_columns(self) -> Words:
        """Method and network."""
        return "method", "architecture"


# --- one number an entry, axes along rows and columns


@dataclass(frozen=True, kw_only=True)
class GridPanel(Item):
    """A data set. `paper`: its name in the paper's CSV."""

    paper: str
    overrides: Words


@dataclass(frozen=True, kw_only=True)
class GridMethod(Item):
    """A method. `paper`: method and variant in the paper's CSV; without it the label, and none."""

    overrides: Words
    paper: tuple[str, str] | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GridVariant(TableVariant):
    """A variant of a grid."""

    panels: tuple[GridPanel, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class GridTable(TableSpec):
    """Layout of the sketching paper: panels one below the other; networks, densities and methods along `rows` and `columns`."""

    adds_rules: ClassVar[bool] = True
    panels: tuple[GridPanel, ...]
    methods: tuple[GridMethod, ...]
    densities: tuple[float, ...]
    rows: tuple[AxisName, ...]
    columns: tuple[AxisName, ...]
    elsewhere: Mapping[str, GridVariant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse axes that are missing or there twice."""
        if sorted((*self.rows, *self.columns)) != ["density", "method", "network"]:
            raise ValueError(f"rows={list(self.rows)} and columns={list(self.columns)} must be network, density and method, each once")

    @property
    def panel_refs(self) -> list[str]:
        """Ids of the data sets."""
        return [panel.ref for panel in self.panels]

    @property
    def method_refs(self) -> list[str]:
        """Ids of the methods."""
        return [method.ref for method in self.methods]

    @property
    def paper_columns(self) -> Words:
        """Columns of the paper's CSV that name a line of it."""
        return "dataset", "architecture", "method", "variant", "density"

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Every `when` with its key."""
        yield from super().conditions()
        yield from whens(methods=self.methods)


# --- hyper-parameters, read from the configuration


@dataclass(frozen=True, kw_only=True)
class SettingRow(Item):
    """A hyper-parameter. `reads`: its key in the configuration; `under`: overrides, under each of which it is read."""

    reads: str
    under: tuple[Words, ...] = ((),)
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SettingsTable(TableSpec):
    """Layout `settings`: a line for each hyper-parameter, in groups; nothing is run."""

    groups: tuple[tuple[SettingRow, ...], ...]

    @property
    def paper_columns(self) -> Words:
        """Columns of the paper's CSV that name a line of it."""
        return ("parameter",)

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Every `when` with its key."""
        yield from super().conditions()
        for i, group in enumerate(self.groups):
            yield from ((f"groups.{i}.{key}", when) for key, when in whens(rows=group))
