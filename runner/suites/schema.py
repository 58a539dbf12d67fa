"""What the YAML of tables and figures may say, as frozen dataclasses: a key is a field. runner/suites/spec.py reads them.

Here is what tables have in common, and what they share with figures; runner/suites/schema_tables.py has the layouts of tables, schema_figures.py figures.

Where one part refers to another (claims, findings, rules, notes), it names an `id`. An item without an `id` of its own has its label for one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from runner.config.typed import build, coerce

Words = tuple[str, ...]  # overrides
When = dict[str, str]  # option of the table -> the value that it must have


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something with a printed name."""

    label: str
    id: str = ""

    @property
    def ref(self) -> str:
        """The name by which other parts refer to it."""
        return self.id or self.label


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Overrides for some entries. A key that is left out matches all.

    Args:
        method: what the id of a method (in a figure, of a series) begins with.
        title: what the title of the page says where the rule holds.
    """

    overrides: Words
    panel: str | None = None
    network: str | None = None
    method: str = ""
    when: When = field(default_factory=dict)
    title: str = ""

    def matches(self, panel: str | None, network: str, method: str) -> bool:
        """Whether it is for this entry, its `when` aside."""
        return self.panel in (None, panel) and self.network in (None, network) and method.startswith(self.method)


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line below the table, in YAML also as its text alone.

    Args:
        panel, network, when: it stands where this is printed.
    """

    text: str
    panel: str | None = None
    network: str | None = None
    when: When = field(default_factory=dict)

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Note":
        """Of a text or a mapping."""
        return build(cls, value, key) if isinstance(value, dict) else cls(text=coerce(value, str, key))


@dataclass(frozen=True)
class Rivals:
    """The ids that a claim compares its entry with, in YAML one or a list."""

    ids: Words

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Rivals":
        """Of an id or a list of them."""
        return cls(coerce([value] if isinstance(value, str) else value, Words, key))


@dataclass(frozen=True, kw_only=True)
class TableClaim:
    """An entry is better than its rivals: ids of methods or of columns."""

    claim: str
    entry: str
    above: Rivals
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line of the appendix: what the runs of a row report at `key`."""

    row: str
    key: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several numbers side by side in an entry.

    Args:
        of: its factors: findings of the run by name, and numbers.
        before: printed in front of it.
        none: printed where a finding is none.
    """

    name: str
    of: tuple[str | int | float, ...]
    before: str = ""
    none: str = "none"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same table on other data, NAME@DATASET: what it says instead of the table.

    Args:
        nets: how the title tells that the networks are other ones.
        options: values for the options of the table.
    """

    overrides: Words
    networks: dict[str, str]
    seeds: tuple[int, ...] | None = None
    where: tuple[Rule, ...] = ()
    nets: str = "width-16 nets"
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TableVariant(Variant):
    """A variant of a table."""

    claims: tuple[TableClaim, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteSpec:
    """What tables and figures have in common.

    Args:
        number: the paper's; our own tables have none.
        networks: printed name -> model.
        options: KEY of `table.KEY=VALUE` -> its values, the default first.
        elsewhere: data set -> the variant on it.
    """

    drawn: ClassVar[bool] = False
    adds_rules: ClassVar[bool] = False  # whether a variant's rules are added to those of the table; otherwise they replace them
    paper: str
    title: str
    layout: str
    seeds: tuple[int, ...]
    overrides: Words
    networks: dict[str, str]
    number: int | str | None = None
    options: dict[str, Words] = field(default_factory=dict)
    where: tuple[Rule, ...] = ()
    elsewhere: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """The paper's number and title; without a number the title alone."""
        return f"{self.kind} {self.number}: {self.title}" if self.number is not None else self.title

    @property
    def kind(self) -> str:
        """What the paper calls it."""
        return "Table"

    @property
    def panel_refs(self) -> list[str]:
        """Ids of its panels."""
        return []

    @property
    def method_refs(self) -> list[str]:
        """Ids of its methods; of a figure, of its series."""
        return []

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Every `when` with its key."""
        yield from whens(where=self.where)


@dataclass(frozen=True, kw_only=True)
class TableSpec(SuiteSpec):
    """What all tables have in common.

    Args:
        sign: printed between mean and deviation.
        decimals: of differences to the paper's numbers.
        entry: what the numbers of an entry are, instead of accuracies.
        anomalies: notes on the paper's own numbers.
    """

    number: int | None = None
    sign: str = " ± "
    decimals: int = 1
    entry: str = ""
    notes: tuple[Note, ...] = ()
    anomalies: tuple[Note, ...] = ()
    claims: tuple[TableClaim, ...] = ()
    elsewhere: Mapping[str, TableVariant] = field(default_factory=dict)

    @property
    def column_refs(self) -> list[str]:
        """Ids of the columns that claims may name."""
        return []

    @property
    def paper_columns(self) -> Words:
        """Columns of the paper's CSV that name a line of it."""
        return ()

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Every `when` with its key."""
        yield from super().conditions()
        yield from whens(notes=self.notes, anomalies=self.anomalies, claims=self.claims)


def whens(**parts: tuple[Any, ...]) -> Iterator[tuple[str, When]]:
    """The conditions of lists of items that have a `when`."""
    for name, items in parts.items():
        for i, item in enumerate(items):
            yield f"{name}.{i}.when", item.when
