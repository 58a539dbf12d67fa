"""Records to tables, in the papers' own layout: ours beside the paper's number. Nothing is run here, and no number is typed in."""

import csv
import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.cells import Cell, Table, results_roots
from runner.compose import CONF
from runner.planned import PlannedRun

MISSING = "–"
DIFFERS = " ≠"  # after a value that is not the paper's
DAGGER = "†"  # after a number that the paper quotes
POINTS = ("accuracy", "top5")  # metrics in percent, whose difference to the paper's is printed
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


def find_record(run_id: str, results_dir: Path) -> dict[str, Any] | None:
    """The record of a run, from this machine's results or from those that we ship."""
    for root in results_roots(results_dir):
        path = root / "runs" / run_id / "result.json"
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text())
            return record
    return None


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


def mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); no spread for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def ours(entry: Entry, metric: str) -> str:
    """Our number as the paper prints that metric; accuracy with its spread; `–` when nothing was measured."""
    values = entry.values(metric)
    if not values:
        return MISSING
    mean, spread = mean_and_spread(values)
    if metric in POINTS:
        return f"{mean:.2f}" + (f"{entry.sign}{spread:.2f}" if spread is not None else "") + _short(entry)
    if metric == "sparsity":
        return f"{mean:.2f}" if mean else "0"
    if metric == "overlap":
        return f"{mean:.1f}%"
    if metric == "cost":
        return _cost(f"{mean:,.0f}", entry.records[0]["epoch_kind"])
    return f"{mean:,.0f}" if mean >= 10 or metric in ("epochs", "before") else f"{mean:.1f}"


def _cost(epochs: str, kind: str) -> str:
    """Epochs as the jackpots paper prints them: of training (T) or of the search for a mask (S)."""
    return f"{epochs} ({'S' if kind == 'search' else 'T'})"


def _short(entry: Entry) -> str:
    """A mark on an entry with fewer seeds than asked."""
    n, asked = len(entry.records), len(entry.jobs)
    return "" if n == asked else f" (n={n} of {asked})"


FURTHER = {"top5": "accuracy_top5", "overlap": "overlap_percent", "before": "epochs_before"}  # metric of some tables -> its column in CSVs, theirs and ours
PAPER_COLUMN = {"sparsity": "sparsity", "accuracy": "accuracy_mean", "epochs": "epochs", "runtime_s": "runtime_s"}


def papers(entry: Entry, metric: str) -> str:
    """The paper's number as printed; thousands with a comma as there."""
    text = entry.paper.get({**PAPER_COLUMN, **FURTHER, "cost": "epochs"}[metric], "")
    if not text:
        return MISSING
    if metric == "accuracy" and entry.paper.get("accuracy_std"):
        return f"{text}{entry.sign}{entry.paper['accuracy_std']}"
    if metric in POINTS:
        return text + (DAGGER if entry.cell.quoted else "")
    if metric == "overlap":
        return f"{text}%"
    if metric == "cost":
        return _cost(text, entry.paper.get("epoch_kind", "search"))
    return f"{int(text):,}" if metric in ("epochs", "runtime_s") else text


def difference(entry: Entry, metric: str = "accuracy") -> float | None:
    """Our mean accuracy (`top5`: top-5 accuracy) minus the paper's, in points; None when either is missing."""
    values, text = entry.values(metric), entry.paper.get({**PAPER_COLUMN, **FURTHER}[metric])
    return statistics.fmean(values) - float(text) if values and text else None


def full(entry: Entry, metric: str) -> str:
    """`ours [paper's]`; for accuracy also the difference."""
    if metric == "parts":
        return f"{_parts(entry)} [{_papers_number(entry)}]"
    if metric == "value":
        theirs = entry.paper.get("value", MISSING)
        return f"{entry.cell.value} [{theirs}]" + (DIFFERS if entry.cell.value != theirs else "")
    if metric == "before":
        return ours(entry, metric)
    gap = difference(entry, metric) if metric in POINTS else None
    extra = f", {gap:+.{entry.spec.get('decimals', 1)}f}" if gap is not None and math.isfinite(gap) else ""
    return f"{ours(entry, metric)} [{papers(entry, metric)}{extra}]"


def part_of(part: dict[str, Any], record: dict[str, Any]) -> float | None:
    """A part of an entry: the product of findings and numbers; None where a finding is none or was not finite."""
    factors = [record["report"].get(name) if isinstance(name, str) else name for name in part["of"]]
    return None if None in factors else math.prod(factors)


def _parts(entry: Entry) -> str:
    """Our numbers side by side, each the mean over seeds."""
    if not entry.records:
        return MISSING
    text = ""
    for part in entry.spec["parts"]:
        values = [part_of(part, record) for record in entry.records]
        numbers = [value for value in values if value is not None]
        text += part.get("before", "") + (shown(statistics.fmean(numbers)) if len(numbers) == len(values) else part.get("none", "none"))
    return text + _short(entry)


def _papers_number(entry: Entry) -> str:
    """The paper's number as it prints powers of ten, `<` before a bound."""
    text = entry.paper.get(entry.spec["paper_number"], "")
    bound = "< " if entry.paper.get("relation") == "<" else ""
    return bound + power(text) if text else MISSING


def shown(value: float) -> str:
    """Our number of any size in three digits: `85.1`, `6.17 × 10^-12`, `0`."""
    return f"{value:#.3g}".rstrip(".") if 0.01 <= abs(value) < 999.5 else power(f"{value:.2e}")


def power(text: str) -> str:
    """A number in e-notation as papers print it, digits as they are: `6.17 × 10^-12`; zero is 0."""
    digits, _, exponent = text.partition("e")
    return "0" if not float(text) else f"{digits} × 10^{int(exponent)}" if int(exponent or 0) else digits
