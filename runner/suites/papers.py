"""The papers: their titles (conf/papers.yaml), and their printed numbers (results/paper)."""

import csv
from functools import cache
from pathlib import Path

from runner.config.plain import read_plain
from runner.paths import CONF, PAPERS
from runner.suites.schema import TableSpec


def paper_titles() -> dict[str, str]:
    """Key of a paper -> its title, in the order of the report."""
    titles: dict[str, str] = read_plain(CONF / "papers.yaml", resolve=False)
    return titles


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
