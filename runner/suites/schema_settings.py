"""The settings that the papers and the authors' code state: conf/settings/<paper>.yaml, typed.

runner/suites/settings.py compares them with ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from runner.config.plain import read_plain
from runner.config.typed import build, coerce
from runner.errors import ConfigError
from runner.paths import CONF
from runner.suites.schema import Names, When

Value = int | float | bool | str | None


@dataclass(frozen=True)
class OurValues:
    """Our values that an explanation covers; in YAML one or a list."""

    values: tuple[Value, ...]

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "OurValues":
        """Build it from a value or a list of values."""
        listed = value if isinstance(value, list) else [value]
        return cls(coerce(listed, tuple[Value, ...], key))


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a source states of a setting for some entries; omitted conditions match all entries.

    Args:
        paper: the value, written as ours is; None = not stated.
        source: the section or table of the paper, or the authors' code; if nothing is stated, what
            decides ours.
        tables: numbers of tables, or of figures.
        methods: choices of `method`.
        at: axis of a table (panel, network, method, density, column; row of a figure) -> the id
            of the entry; a method's is a prefix.
        when: option of the table -> the value that it must have.
        ours: our value where it is another one, or several of one reason.
        because: why it is another one, in one sentence.
    """

    source: str
    paper: Value = None
    tables: tuple[int, ...] = ()
    methods: Names = ()
    at: dict[str, str] = field(default_factory=dict)
    when: When = field(default_factory=dict)
    ours: OurValues | None = None
    because: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for an explanation without our value, or the other way round."""
        if (self.ours is None) != (not self.because):
            raise ValueError(f"because={self.because!r}: give ours and because, or neither")
        if self.because and self.paper is None:
            raise ValueError(f"because={self.because!r}: nothing is stated that ours differs from")

    def matches(
        self, table: int | None, method: str, ids: Mapping[str, str], options: Mapping[str, str]
    ) -> bool:
        """Whether it is about an entry.

        Args:
            ids: the entry's id along each axis.
            options: the values of the table's options.
        """
        return (
            (not self.tables or table in self.tables)
            and (not self.methods or method in self.methods)
            and all(_is_at(axis, ids.get(axis, ""), name) for axis, name in self.at.items())
            and all(options.get(key) == value for key, value in self.when.items())
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting and what is stated of it; of the statements on an entry, the last counts.

    Args:
        setting: its printed name.
        reads: the key of our value (runner/suites/readings.py).
    """

    setting: str
    reads: str
    stated: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class PaperSettings:
    """All settings of a paper in printed order.

    Args:
        note: what the sources are, printed below a page.
        figures: whether the numbers are those of figures, not of tables.
    """

    note: str
    settings: tuple[Setting, ...]
    figures: bool = False


@cache
def read_settings(paper: str) -> PaperSettings:
    """The settings of a paper, of which conf/settings has a file.

    Raises:
        ConfigError: every mistake in the file.
    """
    path = CONF / "settings" / f"{paper}.yaml"
    try:
        return build(PaperSettings, read_plain(path, resolve=True), "")
    except ConfigError as error:
        name = path.relative_to(CONF.parent)
        raise ConfigError(*(f"{name}: {message}" for message in error.messages)) from None


def papers_with_settings() -> list[str]:
    """The papers whose settings conf/settings has."""
    return sorted(path.stem for path in (CONF / "settings").glob("*.yaml"))


def _is_at(axis: str, own: str, name: str) -> bool:
    return own.startswith(name) if axis == "method" else own == name
