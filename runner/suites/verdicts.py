"""Verdicts on the claims of a table or figure: lines of a small table, and files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tabulate import tabulate

from runner.files import atomically

COLUMNS = ("claim", "what was measured", "95 % confidence interval", "holds")
HOLDS, FAILS, OPEN, UNKNOWN = "holds", "does not hold", "open", "not run"

WIDTH = 70  # characters per line of a claim in the table


@dataclass(frozen=True)
class Verdict:
    """A line of the table of verdicts."""

    claim: str
    measured: str = "–"
    interval: str = "–"
    holds: str = UNKNOWN

    @property
    def row(self) -> tuple[str, str, str, str]:
        """The cells in the order of COLUMNS."""
        return self.claim, self.measured, self.interval, self.holds


def as_table(lines: Sequence[Verdict]) -> str:
    """Format the verdicts for a terminal."""
    return tabulate(
        [line.row for line in lines], headers=COLUMNS, maxcolwidths=[WIDTH, None, None, None]
    )


def write_claims(lines: Sequence[Verdict], folder: Path, name: str) -> None:
    """Write the verdicts to <name>.claims.{txt,md,csv} in `folder`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *(line.row for line in lines)])
    forms = {
        "txt": as_table(lines) + "\n",
        "md": tabulate([line.row for line in lines], headers=COLUMNS, tablefmt="github") + "\n",
        "csv": text.getvalue(),
    }
    for ending, content in forms.items():
        atomically(folder / f"{name}.claims.{ending}", partial(Path.write_text, data=content))
