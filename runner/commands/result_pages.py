"""The published files of a line of the index, as documents cite them: rows, claims, records."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runner.commands.published import page_name, read_index
from runner.errors import ConfigError, one_of
from runner.paths import typed
from runner.records.flat import Cells, row_of
from runner.records.packed import read_lines
from runner.records.stored import StoredRun

WITHDRAWN = "withdrawn"  # folder beside that of the published files
Row = Mapping[str, str]


@dataclass(frozen=True)
class ResultPage:
    """A published table, figure or sweep.

    Args:
        section: of the index: tables, figures or runs.
        name: the name of its files, without their endings.
    """

    published: Path
    section: str
    name: str

    @cached_property
    def rows(self) -> list[Row]:
        """The lines of its CSV: a run of a table, or a point of a figure."""
        return self._csv("csv")

    @cached_property
    def claims(self) -> list[Row]:
        """The verdicts on its claims."""
        return self._csv("claims.csv")

    @cached_property
    def runs(self) -> list[Cells]:
        """The numbers, findings and configuration of its runs by column, in order of run ids."""
        lines = read_lines(self.published / "records" / f"{self.name}.jsonl")
        stored = [StoredRun(line["record"], json.dumps(line["config"])) for line in lines.values()]
        return [row_of(run) for run in stored]

    @cached_property
    def withdrawn(self) -> Mapping[str, Cells]:
        """Records of a former measurement of its runs, by run id; they are on no page."""
        lines = read_lines(self.published.with_name(WITHDRAWN) / f"{self.name}.jsonl")
        return {run_id: row_of(StoredRun(line["record"])) for run_id, line in lines.items()}

    @property
    def printed(self) -> Path:
        """The file for a reader: the table, or the verdicts of a figure, or its numbers."""
        stem = self.published / self.section / self.name
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("md", "claims.md", "csv")]
        records = self.published / "records" / f"{self.name}.jsonl"
        return next((path for path in paths if path.is_file()), records)

    def _csv(self, ending: str) -> list[Row]:
        path = self.published / self.section / f"{self.name}.{ending}"
        if not path.is_file():
            raise ConfigError(f"{path} does not exist: {typed('publish', 'all')} writes the pages")
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def find_page(words: str, published: Path) -> ResultPage:
    """The page of the only line of the index that has all these words.

    Raises:
        ConfigError: no line has them, or several have.
    """
    wanted = set(words.split())
    lines = [
        (section, line)
        for section, listed in read_index(published).items()
        for line in listed
        if wanted <= set(line.split())
    ]
    if not lines:
        listed = [line for lines in read_index(published).values() for line in lines]
        raise ConfigError(one_of("page", words, [line.split()[0] for line in listed]))
    exact = [(section, line) for section, line in lines if set(line.split()) == wanted]
    if len(exact or lines) > 1:
        raise ConfigError(
            f"page={words}: {len(lines)} lines of the index have these words; add words of one:"
            f" {'; '.join(line for _, line in lines)}"
        )
    ((section, line),) = exact or lines
    return ResultPage(published, section, page_name(line, read_index(published)[section]))


def matching(rows: Sequence[Row], column: str, pattern: str | None) -> list[Row]:
    """The rows with a value that fits the pattern, in which `*` stands for any text.

    Raises:
        ConfigError: no row fits, or there is no such column.
    """
    if pattern is None:
        return list(rows)
    if any(column not in row for row in rows):
        raise ConfigError(one_of("column", column, rows[0]))
    form = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    found = [row for row in rows if form.fullmatch(row[column])]
    if not found:
        raise ConfigError(one_of(column, pattern, dict.fromkeys(row[column] for row in rows)))
    return found
