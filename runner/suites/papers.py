"""The papers: their titles (conf/papers.yaml), and their printed numbers (results/paper)."""

import csv
from functools import cache
from pathlib import Path

from runner.config.plain import read_plain
from runner.own import own_folders
from runner.paths import CONF, PAPERS
from runner.suites.schema import TableSpec

FILE = "papers.yaml"  # of conf, and of a folder of the user's own for further papers


def paper_titles() -> dict[str, str]:
    """Key of a paper -> its title, in the order of the report."""
    own = (folder.conf / FILE for folder in own_folders())
    titles: dict[str, str] = {}
    for path in (CONF / FILE, *filter(Path.is_file, own)):
        titles |= {key: title for key, title in _titles(path).items() if key not in titles}
    return titles


def _titles(path: Path) -> dict[str, str]:
    return read_plain(path, resolve=False)


def papers_csv(spec: TableSpec) -> Path:
    """The CSV with the paper's numbers, for a table that has a number in the paper."""
    return PAPERS / f"{spec.paper}_table{spec.number:02d}.csv"


def paper_files(spec: TableSpec) -> list[Path]:
    """The CSVs with papers' numbers beside ours: the table's own, or those that `beside` names."""
    if spec.number is not None:
        return [papers_csv(spec)]
    return [PAPERS / f"{name}.csv" for name in spec.beside]


@cache
def lines_of(path: Path) -> tuple[dict[str, str], ...]:
    """The lines of a CSV, column -> text. The result is cached and must not be modified."""
    with path.open(newline="") as file:
        return tuple(csv.DictReader(file))


def header(path: Path) -> list[str]:
    """The columns of a CSV."""
    return list(lines_of(path)[0])
