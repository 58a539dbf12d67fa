"""The printed numbers of the papers: results/paper/<paper>_table<nn>.csv."""

import csv
from functools import cache
from pathlib import Path

from runner.paths import PAPERS
from runner.suites.schema import TableSpec


def papers_csv(spec: TableSpec) -> Path:
    """The CSV with the paper's numbers, for a table that has a number in the paper."""
    return PAPERS / f"{spec.paper}_table{spec.number:02d}.csv"


@cache
def lines_of(path: Path) -> tuple[dict[str, str], ...]:
    """The lines of a CSV, column -> text. The result is cached and must not be modified."""
    with path.open(newline="") as file:
        return tuple(csv.DictReader(file))


def header(path: Path) -> list[str]:
    """The columns of a CSV."""
    return list(lines_of(path)[0])
