"""Schema of the matrix and blocks layouts.

Their YAML names the line of each entry in the paper's CSV (`paper_line`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from runner.suites.schema import Item, Names, Overrides, Part, TableSpec, TableVariant, When, whens

# --- a row for each method on each data set, a column for each value of an option


@dataclass(frozen=True, kw_only=True)
class MatrixPanel(Item):
    """A data set. `paper`: the names of its lines in the paper's CSV, column -> text."""

    overrides: Overrides
    paper: dict[str, str]
    density: float | None = None
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MatrixMethod(Item):
    """A method. `paper`: the names of its lines in the paper's CSV, column -> text."""

    overrides: Overrides
    paper: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MatrixColumn(Item):
    """A value of an option.

    Args:
        paper: the names of its lines in the paper's CSV, column -> text.
        ran: as in a row of runner/suites/schema_tables.py.
    """

    overrides: Overrides
    paper: dict[str, str]
    ran: str = ""


@dataclass(frozen=True, kw_only=True)
class MatrixVariant(TableVariant):
    """A variant of a matrix."""

    panels: tuple[MatrixPanel, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class MatrixTable(TableSpec):
    """Layout `matrix`: one row per method and data set, one column per value of an option.

    Args:
        row: template of a row's label, with {method} and {dataset}.
        stub: the head of the labels.
        over: a further header line on top: its text over the labels and over the columns.
        paper_line: the columns of the paper's CSV that identify a line.
        paper_networks: printed name of a network -> its name in the paper's CSV, if different.
        parts: numbers side by side in an entry, instead of the accuracy.
        paper_number: the column of the paper's CSV with the number beside `parts`.
    """

    adds_rules: ClassVar[bool] = True
    panels: tuple[MatrixPanel, ...]
    methods: tuple[MatrixMethod, ...]
    columns: tuple[MatrixColumn, ...]
    row: str
    stub: str
    over: tuple[str, str] | None = None
    paper_line: Names
    paper_networks: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    paper_number: str = ""
    variants: Mapping[str, MatrixVariant] = field(default_factory=dict)

    @property
    def panel_refs(self) -> list[str]:
        """The ids of the data sets."""
        return [panel.ref for panel in self.panels]

    @property
    def method_refs(self) -> list[str]:
        """The ids of the methods."""
        return [method.ref for method in self.methods]

    @property
    def column_refs(self) -> list[str]:
        """The ids of the columns."""
        return [column.ref for column in self.columns]

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line."""
        return self.paper_line

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        yield from whens(panels=self.panels)


# --- blocks of rows


@dataclass(frozen=True, kw_only=True)
class Block:
    """One repetition of the rows with its own network or density.

    Args:
        label: printed above it.
        ran: as in a row of runner/suites/schema_tables.py.
        rows: ids of the rows that it has; by default all.
        densities: those of its columns that it has; by default all.
        seeds: its own seeds; by default those of the table.
    """

    label: str = ""
    ran: str = ""
    rows: Names | None = None
    densities: tuple[float, ...] | None = None
    seeds: tuple[int, ...] = ()
    network: str | None = None
    density: float | None = None
    overrides: Overrides = ()
    paper: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BlockColumn:
    """A column with a metric of the runs at `density`, or of the row's first entry.

    Args:
        metric: a name in runner/suites/metrics.py.
    """

    label: str
    metric: str
    density: float | None = None


@dataclass(frozen=True, kw_only=True)
class BlockRow(Item):
    """A method.

    Args:
        label: its printed name, which may contain {network}.
        name: distinguishes rows with the same label.
        dense: whether nothing is pruned; the row then has one entry, without the block's overrides.
        quoted: whether the paper took its numbers from elsewhere.
        ran: as in a row of runner/suites/schema_tables.py; the number is that of label or name.
    """

    overrides: Overrides
    paper: dict[str, str] = field(default_factory=dict)
    name: str = ""
    ran: str = ""
    dense: bool = False
    quoted: bool = False
    when: When = field(default_factory=dict)

    def ref_on(self, network: str) -> str:
        """The id in a block with that network; by default label and name."""
        return self.id or ", ".join(filter(None, (self.label.format(network=network), self.name)))


@dataclass(frozen=True, kw_only=True)
class BlocksTable(TableSpec):
    """Layout `blocks`, of the jackpots paper: the rows are repeated in each block.

    Args:
        stub: the head of the labels.
        paper_line: the columns of the paper's CSV that identify a line.
    """

    adds_rules: ClassVar[bool] = True
    stub: str
    blocks: tuple[Block, ...]
    columns: tuple[BlockColumn, ...]
    rows: tuple[BlockRow, ...]
    paper_line: Names = ()

    @property
    def panel_refs(self) -> list[str]:
        """The labels of the blocks."""
        return [block.label for block in self.blocks if block.label]

    @property
    def method_refs(self) -> list[str]:
        """The ids of the rows on every network."""
        return list(
            dict.fromkeys(row.ref_on(network) for row in self.rows for network in self.networks)
        )

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line."""
        return self.paper_line

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        yield from whens(rows=self.rows)
