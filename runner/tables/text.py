"""Format entries of the page: our number, the paper's number, and their difference."""

import math
import statistics
from typing import Any

from runner.suites.metrics import Metric, Printed, Sample
from runner.suites.numbers import mean_and_spread, power, shown
from runner.suites.page import Parts, Setting, Shown
from runner.suites.schema import Part
from runner.tables.entries import Entry

MISSING = "–"
DIVERGED = "diverged"  # in place of a number, where every finished run diverged
DIFFERS = " ≠"  # after a value that differs from the paper's

DAGGER = "†"  # after a number that the paper quotes from other work


def full(entry: Entry, what: Shown, decimals: int | None = 1) -> str:
    """Format `ours [paper's]`; metrics in points also have the difference.

    Args:
        decimals: of the difference; None = without it, since the paper has other data.
    """
    match what:
        case Parts():
            return f"{_parts(entry, what.parts)} [{_papers_bound(entry, what.paper_number)}]"
        case Setting():
            theirs = entry.paper.get("value", MISSING)
            return f"{entry.cell.value} [{theirs}]{DIFFERS if entry.cell.value != theirs else ''}"
        case Metric() if not what.compared:
            return ours(entry, what)
    gap = difference(entry, what) if what.points and decimals is not None else None
    extra = f", {gap:+.{decimals}f}" if gap is not None and math.isfinite(gap) else ""
    return f"{ours(entry, what)} [{papers(entry, what)}{extra}]"


def ours(entry: Entry, metric: Metric) -> str:
    """Format our number as the paper prints the metric; `–` if nothing was measured.

    An entry with diverged runs states their number in every column.
    """
    values, short = entry.values(metric), _short(entry)
    if not values:
        return _nothing(entry)
    mean, spread = mean_and_spread(values)
    kind = entry.records[0]["epoch_kind"]
    text = metric.text(Sample(mean, spread, entry.sign, short, kind))
    return text + short if entry.diverged() and short not in text else text


def _short(entry: Entry) -> str:
    """The mark of an entry with fewer seeds than requested; empty otherwise."""
    n, requested, diverged = len(entry.records), len(entry.jobs), entry.diverged()
    if n == requested:
        return ""
    return f" (n={n} of {requested}{f', {diverged} diverged' if diverged else ''})"


def _nothing(entry: Entry) -> str:
    """The text of an entry without a number: `diverged` if no finished run is finite, or `–`."""
    diverged, requested = entry.diverged(), len(entry.requested)
    if not diverged or entry.records:
        return MISSING
    return DIVERGED if diverged == requested else f"{DIVERGED} ({diverged} of {requested})"


def papers(entry: Entry, metric: Metric) -> str:
    """The paper's number as printed; `–` if it has none."""
    text = entry.paper.get(metric.paper_column, "")
    if not text:
        return MISSING
    mark = DAGGER if entry.cell.quoted else ""
    return metric.paper_text(Printed(text, entry.paper, entry.sign, mark))


def difference(entry: Entry, metric: Metric) -> float | None:
    """Our mean minus the paper's, in points; None if either is missing."""
    values, text = entry.values(metric), entry.paper.get(metric.paper_column)
    return statistics.fmean(values) - float(text) if values and text else None


# --- several numbers side by side


def part_of(part: Part, record: dict[str, Any]) -> float | None:
    """A part of an entry: the product of its factors.

    The result is None if a factor in the report is missing, None, or was not finite.
    """
    factors = [record["report"].get(name) if isinstance(name, str) else name for name in part.of]
    return None if None in factors else math.prod(factors)


def _parts(entry: Entry, parts: tuple[Part, ...]) -> str:
    """Format our numbers side by side, each as the mean over seeds."""
    if not entry.records:
        return _nothing(entry)
    text = ""
    for part in parts:
        values = [part_of(part, record) for record in entry.records]
        numbers = [value for value in values if value is not None]
        whole = len(numbers) == len(values)
        text += part.before + (shown(statistics.fmean(numbers)) if whole else part.none)
    return text + _short(entry)


def _papers_bound(entry: Entry, column: str) -> str:
    """Format the paper's number with powers of ten as printed, and `<` before a bound."""
    text = entry.paper.get(column, "")
    bound = "< " if entry.paper.get("relation") == "<" else ""
    return bound + power(text) if text else MISSING
