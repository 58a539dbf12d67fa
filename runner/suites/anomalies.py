"""What does not fit in a paper's own numbers: results/paper/<paper>_anomalies.yaml, typed.

Pages print each text as a footnote at the numbers that it is about (runner/tables/marks.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from runner.config.plain import read_plain
from runner.config.typed import build
from runner.errors import ConfigError
from runner.paths import PAPERS
from runner.suites.schema import Names


@dataclass(frozen=True, kw_only=True)
class Place:
    """Numbers of a page.

    Args:
        page: the name of a table or figure.
        lines: column of the page's CSV -> the values of its lines; without any, the whole page.
        columns: the columns with the numbers.
    """

    page: str
    lines: dict[str, Names] = field(default_factory=dict)
    columns: Names = ()

    def __post_init__(self) -> None:
        """Raise ValueError for lines without columns, or the other way round."""
        if bool(self.lines) != bool(self.columns):
            raise ValueError(f"page={self.page}: give lines and columns, or neither")

    def has(self, line: Mapping[str, str], column: str) -> bool:
        """Whether a number of a line of the page's CSV is one of these."""
        return column in self.columns and all(
            line.get(name) in values for name, values in self.lines.items()
        )


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """Something in a paper that does not fit, in our words.

    Args:
        id: its name; texts for different pages share one.
    """

    id: str
    text: str
    at: tuple[Place, ...]

    @property
    def note(self) -> str:
        """The text of its footnote."""
        return f"The paper ({self.id}): {self.text}."

    def on(self, page: str) -> tuple[Place, ...]:
        """Its places on a page."""
        return tuple(place for place in self.at if place.page == page)


@dataclass(frozen=True, kw_only=True)
class _File:
    anomalies: tuple[Anomaly, ...]


def anomalies_file(paper: str) -> Path:
    """The file with the anomalies of a paper."""
    return PAPERS / f"{paper}_anomalies.yaml"


@cache
def anomalies_of(paper: str) -> tuple[Anomaly, ...]:
    """The anomalies of a paper in the order of their file; empty without a file.

    Raises:
        ConfigError: every mistake in the file.
    """
    path = anomalies_file(paper)
    if not path.is_file():
        return ()
    try:
        return build(_File, read_plain(path, resolve=False), "").anomalies
    except ConfigError as error:
        raise ConfigError(*(f"{path.name}: {message}" for message in error.messages)) from None


def anomalies_on(paper: str, page: str) -> Iterator[Anomaly]:
    """The anomalies that a table or figure has, by its name without a variant."""
    return (anomaly for anomaly in anomalies_of(paper) if anomaly.on(page))
