"""A printed page: its header lines and lines, and where each entry stands. runner/suites/layouts.py lays them out, runner/tables/render.py prints them."""

from dataclasses import dataclass, field

Key = tuple[str, str]  # row and column of an entry


@dataclass(frozen=True)
class Place:
    """An entry before anything is composed.

    Args:
        words: the overrides that make it, without a density; the later ones win.
        densities: candidates, of which the best is printed; none for a method that takes no density.
        paper: what names its line in the paper's CSV.
        quoted: whether the paper took its number from elsewhere.
        labels: what stands for it along each axis (panel, network, method, density, column): two entries that differ in one are compared by claims.
        reads: instead of runs: (what is read, under which further words) of the configuration, runner/suites/settings.py.
    """

    key: Key
    network: str
    words: tuple[str, ...]
    densities: tuple[float, ...]
    paper: tuple[str, ...]
    reads: tuple[tuple[str, tuple[str, ...]], ...] = ()
    quoted: bool = False
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A printed line: labels, then in each column an entry's metric or None.

    Without entries it heads a panel. A rule stands above such a line, and where a group begins.
    """

    labels: tuple[str, ...]
    entries: tuple[tuple[Key, str] | None, ...] = ()
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
        paper: columns of the paper's CSV whose values are `Place.paper`.
    """

    heads: tuple[tuple[tuple[str, int], ...], ...]
    lines: tuple[Line, ...]
    paper: tuple[str, ...]

    @property
    def labels(self) -> int:
        """Columns that hold labels."""
        return next(len(line.labels) for line in self.lines if line.entries)
