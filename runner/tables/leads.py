"""Where each entry of a table or figure comes from: its runs, and the line of the paper.

They are written beside the page as <name>.json; `make report` reads them.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.errors import Damaged
from runner.paths import ROOT
from runner.records.find import find_record
from runner.spec.findings import is_diverged
from runner.spec.planned import PlannedRun
from runner.spec.record import Record
from runner.suites.cells import Cell
from runner.suites.expand import Suite
from runner.suites.papers import lines_of, paper_files
from runner.suites.titles import title
from runner.tables.entries import entries, table_spec


@dataclass(frozen=True)
class Lead:
    """Where an entry comes from.

    Args:
        label: the names of its row and column.
        runs: ids of the finished runs whose numbers it shows.
        diverged: ids of its diverged runs.
        others: ids of the finished runs of candidates that were not chosen.
        todo: commands of the missing runs.
        paper: the paper's line, with its source.
    """

    label: str
    runs: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    paper: str = ""

    @property
    def finished(self) -> tuple[str, ...]:
        """The ids of all finished runs."""
        return (*self.runs, *self.diverged, *self.others)


@dataclass(frozen=True)
class Leads:
    """Where a page comes from.

    Args:
        table: the name as in `TABLE=`.
        settings: further words of its command, sorted.
        command: performs the missing runs and writes the page again.
        entries: in the order of the suite's cells; `data-cell` of an HTML table counts them.
    """

    table: str
    title: str
    settings: tuple[str, ...]
    command: str
    entries: tuple[Lead, ...]

    @property
    def measured(self) -> bool:
        """Whether the page shows a number: of a run, or of the configuration."""
        return not any(lead.todo for lead in self.entries) or any(
            lead.finished for lead in self.entries
        )

    def as_json(self) -> str:
        """Compact JSON; empty fields of entries are left out."""
        content = {
            **asdict(self),
            "entries": [
                {key: value for key, value in asdict(lead).items() if value}
                for lead in self.entries
            ],
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_leads(path: Path) -> Leads | None:
    """The leads of a page; None if there is no such file.

    Raises:
        Damaged: the file is not as it was written.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(_read_lead(each) for each in content["entries"])
        return Leads(**{**content, "settings": tuple(content["settings"]), "entries": found})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(path, f"it is not the list of a page's runs ({error})") from None


def _read_lead(content: Mapping[str, Any]) -> Lead:
    """The lead that `Leads.as_json` wrote."""
    names: dict[str, tuple[str, ...]] = {
        key: tuple(content.get(key, ())) for key in ("runs", "diverged", "others", "todo")
    }
    return Lead(label=content["label"], paper=content.get("paper", ""), **names)


def leads(suite: Suite, results_dir: Path) -> Leads:
    """Where the entries of a table, or the points of a figure, come from."""
    found = _points(suite, results_dir) if suite.drawn else _entries(suite, results_dir)
    return Leads(suite.name, title(suite), suite.settings, suite.command, tuple(found))


def _entries(suite: Suite, results_dir: Path) -> list[Lead]:
    """One lead for each entry of a table."""
    return [
        _lead(
            ", ".join(dict.fromkeys(key)),
            entry.cell,
            entry.requested,
            entry.done,
            _papers_line(suite, entry.paper),
        )
        for key, entry in entries(suite, results_dir).items()
    ]


def _points(suite: Suite, results_dir: Path) -> list[Lead]:
    """One lead for each point of each series of a figure."""
    jobs = {job.run_id: job for job in suite.jobs}
    done = {name: record for name in jobs if (record := find_record(name, results_dir))}
    return [
        _lead(", ".join(part for part in key if part), cell, cell.jobs, done)
        for key, cell in suite.cells.items()
    ]


def _lead(
    label: str,
    cell: Cell,
    printed: Sequence[PlannedRun],
    done: Mapping[str, Record],
    paper: str = "",
) -> Lead:
    """The lead of a cell.

    Args:
        printed: the runs that the entry stands for.
        done: run id -> record of the finished ones.
    """
    shown = [job.run_id for job in printed if job.run_id in done]
    bad = {name for name in shown if is_diverged(done[name])}
    return Lead(
        label,
        tuple(name for name in shown if name not in bad),
        tuple(name for name in shown if name in bad),
        tuple(j.run_id for j in cell.jobs if j.run_id in done and j.run_id not in shown),
        tuple(_command(job) for job in cell.jobs if job.run_id not in done),
        paper,
    )


def _command(job: PlannedRun) -> str:
    """The command that performs a run."""
    return shlex.join(["python", "run.py", *job.overrides])


def _papers_line(suite: Suite, line: Mapping[str, str]) -> str:
    """The paper's line as text with its source; empty if the paper has none."""
    if not line:
        return ""
    files = paper_files(table_spec(suite))
    path = next(path for path in files if line in lines_of(path))
    number = lines_of(path).index(dict(line)) + 2  # of the file; the first line is the header
    shown = [f"{key} {value}" for key, value in line.items() if value and key != "paper"]
    return f"{', '.join(shown)} ({path.relative_to(ROOT)}, line {number})"
