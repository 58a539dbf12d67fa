"""The interface of the two forms of stored records: folders of runs and packed files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from runner.spec.record import Record, Row, Series
from runner.streams import say

ORIGIN: Final = "origin"  # key in the metadata of a stage, and in a record's row of the stage
ORIGINS: Final = "origins"  # key in a record's provenance


@dataclass(frozen=True)
class StoredRun:
    """Everything that is stored about a finished run.

    Args:
        config: the resolved configuration as YAML or JSON text; empty if it was not stored.
        series: lists of numbers by name.
        history: one row for each epoch.
    """

    record: Record
    config: str = ""
    series: Series = field(default_factory=dict)
    history: Sequence[Row] = ()

    @property
    def run_id(self) -> str:
        """The run's identity."""
        return self.record["run_id"]


class Source(Protocol):
    """A place that stores the records of finished runs."""

    def run_ids(self) -> Iterable[str]:
        """The ids of the runs with a record, which can be damaged, in any order."""

    def has(self, run_id: str) -> bool:
        """Whether the run is finished and stored here."""

    def record(self, run_id: str) -> Record | None:
        """The record of a run; None if it is not here."""

    def place(self, run_id: str) -> tuple[Path, int] | None:
        """The file of a run's record and its line there; None if it is not here."""

    def run(self, run_id: str) -> StoredRun | None:
        """Everything stored about a run; None if it is not here."""


def last_training(rows: Sequence[Row]) -> list[Row]:
    """The rows of the last stage that trained."""
    return [row for row in rows if row["stage"] == rows[-1]["stage"]]


@lru_cache(maxsize=4096)  # a command reads a record several times
def leave_out(problem: str) -> None:
    """Print, once, that a run is left out because its record is not valid."""
    say(f"{problem}; the run counts as not done")
