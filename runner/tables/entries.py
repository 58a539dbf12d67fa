"""Records to tables, in the papers' own layout: ours beside the paper's number. Nothing is run here, and no number is typed in."""

import csv
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.paths import CONF
from runner.records.find import find_record
from runner.spec.planned import PlannedRun
from runner.suites.expand import Cell, Table

SELECT = {"validation": "val_accuracy", "test": "accuracy"}  # table.select_on -> what the best candidate is chosen by


@dataclass(frozen=True)
class Entry:
    """One network's part of a row: what is printed of it, and what it was chosen from.

    Args:
        jobs: one run a seed: the cell's only set, or the best of several.
        records: of those that are done.
        paper: the paper's line.
        spec: the table's YAML: which accuracy is printed, and how an entry's numbers are.
        done: run id -> record, of all candidates.
        tried: density asked -> the mean by which candidates were compared, None for one that is not done; empty where there was no choice.
    """

    cell: Cell
    jobs: tuple[PlannedRun, ...]
    records: tuple[dict[str, Any], ...]
    paper: dict[str, str]
    spec: dict[str, Any]
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    tried: dict[float, float | None] = field(default_factory=dict)

    @property
    def sign(self) -> str:
        """Between mean and deviation, as the paper prints it."""
        return str(self.spec.get("sign", " ± "))

    def values(self, metric: str) -> list[float]:
        """The metric of every record that has it."""
        found = [number(record, self.spec["metric"] if metric == "accuracy" else metric) for record in self.records]
        return [value for value in found if value is not None]


def number(record: dict[str, Any], metric: str) -> float | None:
    """A record's number for a metric of the page, or for a field of its own."""
    if metric == "before":  # epochs that the paper does not count
        return int(record["epochs_total"] - record["epochs"])
    if metric == "overlap":  # percent
        share = record["report"].get("overlap_magnitude")
        return None if share is None else 100 * share
    value: float | None = record[{"top5": "accuracy_top5", "cost": "epochs"}.get(metric, metric)]
    return value


def metrics(table: Table) -> set[str]:
    """What the page prints."""
    return {at[1] for line in table.page.lines for at in line.entries if at}


def entries(table: Table, results_dir: Path) -> dict[tuple[str, str], Entry]:
    """Every entry of the table with the records that are there."""
    printed = _paper_lines(table)
    return {key: _entry(cell, printed.get(cell.paper, {}), table.spec, results_dir) for key, cell in table.cells.items()}


def _entry(cell: Cell, paper: dict[str, str], spec: dict[str, Any], results_dir: Path) -> Entry:
    """The cell's runs, or the best of its candidates: highest mean over all seeds, ties to the larger sparsity (design.md, section 6)."""
    done = {job.run_id: r for job in cell.jobs if (r := find_record(job.run_id, results_dir))}
    sets = [tuple(done[job.run_id] for job in jobs if job.run_id in done) for jobs in cell.candidates]
    if len(sets) < 2:
        return Entry(cell, cell.jobs, sets[0] if sets else (), paper, spec, done)
    on = SELECT[spec["select_on"]]
    means = [_mean_of(records, on) if len(records) == len(jobs) else None for records, jobs in zip(sets, cell.candidates, strict=True)]
    densities = [jobs[0].run.density or 1.0 for jobs in cell.candidates]
    best = max(range(len(sets)), key=lambda i: (means[i] is not None, means[i] or 0.0, -densities[i]))
    tried = dict(zip(densities, means, strict=True))
    if means[best] is None:
        return Entry(cell, (), (), paper, spec, done, tried)
    return Entry(cell, cell.candidates[best], sets[best], paper, spec, done, tried)


def _mean_of(records: tuple[dict[str, Any], ...], key: str) -> float | None:
    """Mean of a metric over records; None when one of them lacks it."""
    values = [record[key] for record in records]
    return statistics.fmean(values) if values and None not in values else None


def _paper_lines(table: Table) -> dict[tuple[str, ...], dict[str, str]]:
    """What names a line of the paper's table -> the line, numbers as printed; nothing for a table of ours, which has no number."""
    if "number" not in table.spec:
        return {}
    path = CONF.parent / "results" / "paper" / f"{table.spec['paper']}_table{table.spec['number']:02d}.csv"
    with path.open(newline="") as file:
        return {tuple(line[column] for column in table.page.paper): line for line in csv.DictReader(file)}
