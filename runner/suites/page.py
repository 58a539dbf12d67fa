"""A printed page: its header lines and lines, and where each entry stands. runner/suites/layouts.py lays them out, runner/tables/render.py prints them."""

from dataclasses import dataclass, field

from runner.suites.metrics import Metric
from runner.suites.schema import Part, Words

Key = tuple[str, str]  # row and column of an entry


@dataclass(frozen=True)
class Parts:
    """Several numbers side by side in an entry, and the column of the paper's CSV with the number beside them."""

    parts: tuple[Part, ...]
    paper_number: str


@dataclass(frozen=True)
class Setting:
    """A value of the configuration."""


Shown = Metric | Parts | Setting  # what an entry prints


@dataclass(frozen=True)
class CellSpec:
    """An entry before anything is composed.

    Args:
        words: the overrides that make it, without a density; the later ones win.
        densities: candidates, of which the best is printed; none for a method that takes no density.
        paper: what names its line in the paper's CSV.
        quoted: whether the paper took its number from elsewhere.
        labels: what stands for it along each axis (panel, network, method, density, column), as printed.
        ids: the same as claims refer to it: two entries that differ in one are compared.
        reads: instead of runs: (what is read, under which further words) of the configuration, runner/suites/settings.py.
    """

    key: Key
    network: str
    words: Words
    densities: tuple[float, ...] = ()
    paper: Words = ()
    reads: tuple[tuple[str, Words], ...] = ()
    quoted: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A printed line: labels, then in each column what an entry shows, or None.

    Without entries it heads a panel. A rule stands above such a line, and where a group begins.
    """

    labels: tuple[str, ...]
    entries: tuple[tuple[Key, Shown] | None, ...] = ()
    begins: bool = False

    @property
    def ruled(self) -> bool:
        """Whether a rule stands above it."""
        return self.begins or not self.entries


@dataclass(frozen=True)
class Page:
    """The printed form of a table.

    Args:
        heads: header lines from above, each of (text, columns that it spans).
        paper: columns of the paper's CSV whose values are `CellSpec.paper`.
    """

    heads: tuple[tuple[tuple[str, int], ...], ...]
    lines: tuple[Line, ...]
    paper: Words

    @property
    def labels(self) -> int:
        """Columns that hold labels."""
        return next(len(line.labels) for line in self.lines if line.entries)

    @property
    def shown(self) -> list[Shown]:
        """What its entries print."""
        return [at[1] for line in self.lines for at in line.entries if at]
