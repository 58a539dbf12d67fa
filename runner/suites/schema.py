"""The schema of the YAML of tables and figures as frozen dataclasses; each key is a field.

runner/suites/spec.py reads the files. This module contains what tables have in common and what they
share with figures. The layouts of tables are in schema_tables.py, figures in schema_figures.py.

Claims, findings, rules and notes refer to other parts by `id`; the default `id` is the label.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from runner.config.typed import build, coerce

Names = tuple[str, ...]  # ids, keys or columns
Overrides = tuple[str, ...]  # key=value, as on the command line
# a key in the text of a note, and the noun(s) that it counts
READ = re.compile(r"\{([\w./]+)\}(?:( \w+)\(s\))?")
When = dict[str, str]  # option of the table -> the value that it must have


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something with a printed name."""

    label: str
    id: str = ""

    @property
    def ref(self) -> str:
        """The id by which other parts refer to it."""
        return self.id or self.label


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Overrides for some entries. An omitted key matches all entries.

    Args:
        method: a prefix of the id of a method; in a figure, of a series.
        title: text for the title of the page where the rule applies.
    """

    overrides: Overrides
    panel: str | None = None
    network: str | None = None
    method: str = ""
    when: When = field(default_factory=dict)
    title: str = ""

    def matches(self, panel: str | None, network: str, method: str) -> bool:
        """Whether it matches this entry; `when` is not considered."""
        return (
            self.panel in (None, panel)
            and self.network in (None, network)
            and method.startswith(self.method)
        )


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line below the page; in YAML a mapping or only the text.

    `{KEY}` in the text stands for values of the entries that it is about
    (runner/suites/readings.py), e.g. {method.keep}; `{last/epochs} epoch(s)` becomes `1 epoch` or
    `2 epochs`.

    Args:
        of: the beginning of the id of the methods that it is about, in a figure of the series; all
            by default.
        panel, network: the line appears only if these are printed.
        when: the line appears only with these values of the options.
    """

    text: str
    of: str = ""
    panel: str | None = None
    network: str | None = None
    when: When = field(default_factory=dict)

    @property
    def reads(self) -> Names:
        """The keys in its text."""
        return tuple(key for key, _ in READ.findall(self.text))

    def is_about(self, ids: Mapping[str, str]) -> bool:
        """Whether it is about the entry with these ids."""
        return ids.get("method", "").startswith(self.of)

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with the values of its keys."""
        return READ.sub(lambda key: counted(values[key[1]], key[2]), self.text)

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Note":
        """Build a note from a text or a mapping."""
        return (
            build(cls, value, key) if isinstance(value, dict) else cls(text=coerce(value, str, key))
        )


@dataclass(frozen=True)
class Rivals:
    """Ids that a claim is about, each with a verdict of its own; in YAML one id or a list."""

    ids: Names

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "Rivals":
        """Build rivals from an id or a list of ids."""
        return cls(coerce([value] if isinstance(value, str) else value, Names, key))


@dataclass(frozen=True, kw_only=True)
class TableClaim:
    """The claim that an entry is better than its rivals, by ids of methods or of columns."""

    claim: str
    entry: str
    above: Rivals
    when: When = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line of the appendix: the values at `key` in the reports of a row's runs.

    Args:
        checked: whether to state how many runs have no convergence check of the value.
    """

    row: str
    key: str
    label: str
    checked: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several numbers side by side in an entry.

    Args:
        of: its factors: names of values in the run's report, and numbers.
        before: text printed in front of it.
        none: text printed where a value is None.
    """

    name: str
    of: tuple[str | int | float, ...]
    before: str = ""
    none: str = "none"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same table on another data set, NAME@DATASET: the keys that replace those of the table.

    Args:
        nets: text in the title when the networks differ from the paper's in width alone.
        stands_for: printed name of a network -> the network of the table in whose place it is, if
            it has another name.
        options: values for the options of the table.
    """

    overrides: Overrides
    networks: dict[str, str]
    stands_for: dict[str, str] = field(default_factory=dict)
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
        number: its number in the paper; None for our own tables.
        networks: printed name -> model.
        stands_for: as in a variant; empty for the table itself.
        options: KEY of `table.KEY=VALUE` -> its values, the default first.
        variants: data set -> the variant on that data set.
    """

    drawn: ClassVar[bool] = False
    # Whether a variant's rules are added to those of the table; otherwise they replace them.
    adds_rules: ClassVar[bool] = False
    paper: str
    title: str
    layout: str
    seeds: tuple[int, ...]
    overrides: Overrides
    networks: dict[str, str]
    stands_for: dict[str, str] = field(default_factory=dict)
    number: int | str | None = None
    options: dict[str, Names] = field(default_factory=dict)
    where: tuple[Rule, ...] = ()
    notes: tuple[Note, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """The paper's number and title, or only the title if there is no number."""
        return f"{self.kind} {self.number}: {self.title}" if self.number is not None else self.title

    @property
    def kind(self) -> str:
        """The word before its number, as in the paper."""
        return "Table"

    def of_paper(self, network: str) -> str:
        """The network of the paper that a printed name is, or in whose place it is."""
        return self.stands_for.get(network, network)

    @property
    def panel_refs(self) -> list[str]:
        """The ids of its panels."""
        return []

    @property
    def method_refs(self) -> list[str]:
        """The ids of its methods; for a figure, of its series."""
        return []

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from whens(where=self.where, notes=self.notes)


@dataclass(frozen=True, kw_only=True)
class TableSpec(SuiteSpec):
    """What all tables have in common.

    Args:
        sign: text printed between mean and deviation.
        decimals: number of decimals of differences to the paper's numbers.
        entry: description of the numbers of an entry, if they are not accuracies.
        beside: the papers' tables whose numbers are printed beside ours, for a table that is no
            paper's.
        ranks: whether accuracies have their ranks among the methods (runner/tables/ranks.py).
    """

    number: int | None = None
    sign: str = " ± "
    decimals: int = 1
    entry: str = ""
    ranks: bool = False
    beside: Names = ()
    claims: tuple[TableClaim, ...] = ()
    variants: Mapping[str, TableVariant] = field(default_factory=dict)

    @property
    def column_refs(self) -> list[str]:
        """The ids of the columns that claims may name."""
        return []

    @property
    def paper_columns(self) -> Names:
        """The columns of the paper's CSV that identify a line."""
        return ()

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when` with its key."""
        yield from super().conditions()
        yield from whens(claims=self.claims)


def counted(value: str, noun: str | None) -> str:
    """A value and the noun that it counts: `2 epochs`, but `1 epoch`."""
    return value + ((noun if value == "1" else f"{noun}s") if noun else "")


def whens(**parts: tuple[Any, ...]) -> Iterator[tuple[str, When]]:
    """Yield the `when` of every item of the given lists with its key."""
    for name, items in parts.items():
        for i, item in enumerate(items):
            yield f"{name}.{i}.when", item.when
