"""Fill the entries of tables from records and the paper's CSV. Nothing is run here."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.records.find import find_record
from runner.records.predictions import LABELS, PREDICTIONS
from runner.records.read import find_run
from runner.spec.findings import is_diverged
from runner.spec.planned import PlannedRun
from runner.spec.record import Record
from runner.suites.cells import Cell
from runner.suites.expand import Suite
from runner.suites.metrics import ACCURACY, METRICS, Metric, find_metric
from runner.suites.page import Key
from runner.suites.papers import lines_of, paper_files
from runner.suites.schema import TableSpec
from runner.suites.schema_blocks import BlocksTable

NETWORK = "architecture"  # the column of the papers' CSVs with the network
# table.select_on -> the number by which the best candidate is chosen.
SELECT = {"validation": find_metric("val_accuracy"), "test": ACCURACY}


@dataclass(frozen=True)
class Entry:
    """A cell with its records and the paper's line.

    Args:
        jobs: one run per seed: the cell's only set, or the best of several.
        records: the records of the finished runs among `jobs` that did not diverge.
        paper: the line of the paper's CSV.
        accuracy: the accuracy that `table.metric` chooses.
        sign: the text that the paper prints between mean and deviation.
        results_dir: where further numbers of the runs are read.
        done: run id -> record, for all candidates, diverged runs included.
        tried: requested density -> the mean by which candidates were compared, or None for a
            candidate with an unfinished or a diverged run; empty if there was no choice.
    """

    cell: Cell
    jobs: tuple[PlannedRun, ...]
    records: tuple[Record, ...]
    paper: dict[str, str]
    accuracy: Metric
    sign: str
    results_dir: Path
    done: Mapping[str, Record] = field(default_factory=dict)
    tried: dict[float, float | None] = field(default_factory=dict)

    def diverged(self, jobs: Sequence[PlannedRun] | None = None) -> int:
        """Number of diverged runs among `jobs`; by default those of the entry.

        An entry without a choice has all its candidates' runs.
        """
        among = self.requested if jobs is None else jobs
        return sum(is_diverged(self.done[j.run_id]) for j in among if j.run_id in self.done)

    @property
    def collapsed(self) -> int:
        """Number of records whose test accuracy is not above that of chance."""
        ids = {record["run_id"] for record in self.records}
        return collapsed([job for job in self.requested if job.run_id in ids], self.done)

    @property
    def requested(self) -> tuple[PlannedRun, ...]:
        """The runs that the entry stands for: its `jobs`, or all candidates' without a choice."""
        return self.jobs or tuple(self.cell.jobs)

    def number(self, record: Record, metric: Metric) -> float | None:
        """Return a record's number for a metric; ACCURACY stands for the chosen accuracy."""
        return (self.accuracy if metric is ACCURACY else metric).value(record)

    def answers(self, record: Record) -> NDArray[np.bool_] | None:
        """Which test images a run classifies correctly, in order.

        None unless the run has its predictions, which are those of the last epoch.
        """
        run = find_run(record["run_id"], self.results_dir)
        if self.accuracy is not ACCURACY or run is None or PREDICTIONS not in run.series:
            return None
        found, truth = (np.asarray(run.series[name]) for name in (PREDICTIONS, LABELS))
        return np.asarray(found == truth)

    def values(self, metric: Metric) -> list[float]:
        """Return the numbers of a metric from all records that have it."""
        found = [self.number(record, metric) for record in self.records]
        return [value for value in found if value is not None]


def collapsed(jobs: Sequence[PlannedRun], done: Mapping[str, Record]) -> int:
    """Number of finished runs whose test accuracy is not above that of chance.

    Args:
        done: run id -> record.
    """
    found = [(done[job.run_id]["accuracy"], job.outline) for job in jobs if job.run_id in done]
    return sum(is_chance(value, o.classes, o.test_images) for value, o in found)


def collapsed_note(number: int, who_has_them: str) -> list[str]:
    """A note on collapsed runs; none without any."""
    if not number:
        return []
    return [
        f"{number} {'run' if number == 1 else 'runs'} collapsed: the test accuracy is that of"
        f" chance, within three standard errors. {who_has_them}"
    ]


def is_chance(accuracy: float | None, classes: int, images: int) -> bool:
    """Whether a test accuracy in percent is that of guessing, within three standard errors.

    Args:
        images: number of test images.
    """
    if accuracy is None or not classes or not images:
        return False
    chance = 1 / classes
    return accuracy / 100 <= chance + 3 * math.sqrt(chance * (1 - chance) / images)


def metrics(suite: Suite) -> list[Metric]:
    """The metrics that the page prints, in the order of METRICS."""
    printed = [shown.name for shown in suite.page.shown if isinstance(shown, Metric)]
    return [metric for metric in METRICS if metric.name in printed]


def entries(suite: Suite, results_dir: Path) -> dict[Key, Entry]:
    """Return every entry of the table with the existing records."""
    printed = _paper_lines(suite)
    return {
        key: _entry(cell, printed.get(cell.paper, {}), suite, results_dir)
        for key, cell in suite.cells.items()
    }


def table_spec(suite: Suite) -> TableSpec:
    """The spec of a table.

    Raises:
        TypeError: the suite is a figure.
    """
    if not isinstance(suite.spec, TableSpec):
        raise TypeError(f"{suite.name} is no table")
    return suite.spec


def has_paper(suite: Suite) -> bool:
    """Whether numbers of papers are printed beside ours."""
    return bool(paper_files(table_spec(suite)))


def _entry(cell: Cell, paper: dict[str, str], suite: Suite, results_dir: Path) -> Entry:
    """Build the entry of a cell; of several candidates, the best is chosen.

    The best candidate has the highest mean over all seeds; ties go to the larger sparsity
    (docs/tables.md). A candidate with a diverged run has no such mean.
    """
    done = {job.run_id: r for job in cell.jobs if (r := find_record(job.run_id, results_dir))}
    finite = {run_id: record for run_id, record in done.items() if not is_diverged(record)}
    sets = [tuple(finite[j.run_id] for j in jobs if j.run_id in finite) for jobs in cell.candidates]
    accuracy, sign = find_metric(suite.options["metric"]), table_spec(suite).sign
    records = sets[0] if sets else ()
    whole = Entry(cell, cell.jobs, records, paper, accuracy, sign, results_dir, done)
    if len(sets) < 2:
        return whole
    on = SELECT[suite.options["select_on"]]
    means = [
        _mean_of(records, on) if len(records) == len(jobs) else None
        for records, jobs in zip(sets, cell.candidates, strict=True)
    ]
    densities = [jobs[0].outline.density or 1.0 for jobs in cell.candidates]
    best = max(
        range(len(sets)), key=lambda i: (means[i] is not None, means[i] or 0.0, -densities[i])
    )
    tried = dict(zip(densities, means, strict=True))
    if means[best] is None:
        return replace(whole, jobs=(), records=(), tried=tried)
    return replace(whole, jobs=cell.candidates[best], records=sets[best], tried=tried)


def _mean_of(records: Sequence[Record], metric: Metric) -> float | None:
    """The mean of a metric over records; None if a record lacks it."""
    values = [value for record in records if (value := metric.value(record)) is not None]
    return statistics.fmean(values) if values and len(values) == len(records) else None


def _paper_lines(suite: Suite) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines of the papers' CSVs by the names that identify them, with numbers as printed.

    The first of several CSVs takes precedence.
    """
    spec = table_spec(suite)
    names = spec.paper_networks if isinstance(spec, BlocksTable) else {}

    def named(line: dict[str, str], column: str) -> str:
        return names.get(line[column], line[column]) if column == NETWORK else line[column]

    return {
        tuple(named(line, column) for column in suite.page.paper): line
        for path in reversed(paper_files(spec))
        for line in lines_of(path)
    }
