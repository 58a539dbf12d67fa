"""The printed page: its header lines, its lines, and the position of each entry.

runner/suites/layouts.py builds pages, and runner/tables/render.py prints them.
"""

from dataclasses import dataclass, field

from runner.suites.metrics import Metric
from runner.suites.schema import Names, Overrides, Part

Key = tuple[str, str]  # row and column of an entry


@dataclass(frozen=True)
class Parts:
    """Several numbers side by side in an entry.

    Args:
        paper_number: the column of the paper's CSV with the number beside them.
    """

    parts: tuple[Part, ...]
    paper_number: str


@dataclass(frozen=True)
class Setting:
    """An entry that prints a value of the configuration."""


Shown = Metric | Parts | Setting  # what an entry prints


@dataclass(frozen=True)
class CellSpec:
    """An entry before composition.

    Args:
        overrides: its own, without a density; later ones take precedence.
        densities: candidates, of which the best is printed; empty for a method without a density.
        paper: the names of its line in the paper's CSV.
        quoted: whether the paper took its number from elsewhere.
        labels: its printed label along each axis (panel, network, method, density, column).
        ids: its id along each axis; claims compare two entries that differ in one of them.
        ran: axis -> the reading whose value is the number in its label.
        reads: pairs (key, further overrides) to read from the configuration, for an entry without
            runs (runner/suites/read_setting.py).
        seeds: its own seeds; empty for those of the table.
    """

    key: Key
    network: str
    overrides: Overrides
    densities: tuple[float, ...] = ()
    paper: Names = ()
    reads: tuple[tuple[str, Overrides], ...] = ()
    quoted: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """A printed line: its labels, then for each column an entry and what it shows, or None.

    A line without entries is the head of a panel. A rule is printed above such a line, and above
    the first line of a group (`begins`).
    """

    labels: tuple[str, ...]
    entries: tuple[tuple[Key, Shown] | None, ...] = ()
    begins: bool = False

    @property
    def ruled(self) -> bool:
        """Whether a rule is printed above it."""
        return self.begins or not self.entries


@dataclass(frozen=True)
class Page:
    """The printed form of a table.

    Args:
        heads: header lines from top to bottom; each consists of pairs (text, number of columns).
        paper: columns of the paper's CSV whose values are `CellSpec.paper`.
    """

    heads: tuple[tuple[tuple[str, int], ...], ...]
    lines: tuple[Line, ...]
    paper: Names

    @property
    def labels(self) -> int:
        """The number of columns that hold labels."""
        return next(len(line.labels) for line in self.lines if line.entries)

    @property
    def shown(self) -> list[Shown]:
        """What its entries show, in order."""
        return [at[1] for line in self.lines for at in line.entries if at]
