"""An entry as the page prints it: our number, the paper's, and their difference."""

import math
import statistics
from typing import Any

from runner.suites.metrics import Metric, Printed, Sample
from runner.suites.numbers import mean_and_spread, power, shown
from runner.suites.page import Parts, Setting, Shown
from runner.suites.schema import Part
from runner.tables.entries import Entry

MISSING = "–"
DIFFERS = " ≠"  # after a value that is not the paper's

DAGGER = "†"  # after a number that the paper quotes


def full(entry: Entry, what: Shown, decimals: int = 1) -> str:
    """`ours [paper's]`; for a metric in points also the difference, to `decimals`."""
    match what:
        case Parts():
            return f"{_parts(entry, what.parts)} [{_papers_bound(entry, what.paper_number)}]"
        case Setting():
            theirs = entry.paper.get("value", MISSING)
            return f"{entry.cell.value} [{theirs}]" + (DIFFERS if entry.cell.value != theirs else "")
        case Metric() if not what.compared:
            return ours(entry, what)
    gap = difference(entry, what) if what.points else None
    extra = f", {gap:+.{decimals}f}" if gap is not None and math.isfinite(gap) else ""
    return f"{ours(entry, what)} [{papers(entry, what)}{extra}]"


def ours(entry: Entry, metric: Metric) -> str:
    """Our number as the paper prints that metric; `–` when nothing was measured."""
    values = entry.values(metric)
    if not values:
        return MISSING
    mean, spread = mean_and_spread(values)
    return metric.text(Sample(mean, spread, entry.sign, _short(entry), entry.records[0]["epoch_kind"]))


def _short(entry: Entry) -> str:
    """A mark on an entry with fewer seeds than asked."""
    n, asked = len(entry.records), len(entry.jobs)
    return "" if n == asked else f" (n={n} of {asked})"


def papers(entry: Entry, metric: Metric) -> str:
    """The paper's number as printed; `–` when it has none."""
    text = entry.paper.get(metric.paper_column, "")
    return metric.paper_text(Printed(text, entry.paper, entry.sign, DAGGER if entry.cell.quoted else "")) if text else MISSING


def difference(entry: Entry, metric: Metric) -> float | None:
    """Our mean minus the paper's, in points; None when either is missing."""
    values, text = entry.values(metric), entry.paper.get(metric.paper_column)
    return statistics.fmean(values) - float(text) if values and text else None


# --- several numbers side by side


def part_of(part: Part, record: dict[str, Any]) -> float | None:
    """A part of an entry: the product of findings and numbers; None where a finding is none or was not finite."""
    factors = [record["report"].get(name) if isinstance(name, str) else name for name in part.of]
    return None if None in factors else math.prod(factors)


def _parts(entry: Entry, parts: tuple[Part, ...]) -> str:
    """Our numbers side by side, each the mean over seeds."""
    if not entry.records:
        return MISSING
    text = ""
    for part in parts:
        values = [part_of(part, record) for record in entry.records]
        numbers = [value for value in values if value is not None]
        text += part.before + (shown(statistics.fmean(numbers)) if len(numbers) == len(values) else part.none)
    return text + _short(entry)


def _papers_bound(entry: Entry, column: str) -> str:
    """The paper's number as it prints powers of ten, `<` before a bound."""
    text = entry.paper.get(column, "")
    bound = "< " if entry.paper.get("relation") == "<" else ""
    return bound + power(text) if text else MISSING
