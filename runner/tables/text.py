"""Format entries of the page: our number, the paper's number, and their difference."""

import math
import statistics
from dataclasses import dataclass

from runner.spec.findings import doubts, number
from runner.spec.record import Record
from runner.suites.metrics import Metric, Printed, Sample
from runner.suites.numbers import mean_and_spread, power, shown
from runner.suites.page import Parts, Setting, Shown
from runner.suites.schema import Part
from runner.tables.entries import Entry

MISSING = "–"
DIVERGED = "diverged"  # in place of a number, where every finished run diverged
DIFFERS = " ≠"  # after a value that differs from the paper's

DAGGER = "†"  # after a number that the paper quotes from other work
UNCONVERGED = "‡"  # after a number whose check of convergence failed in a run


@dataclass(frozen=True)
class Text:
    """A printed entry. `strong`: its beginning, which is bold."""

    strong: str
    rest: str

    @property
    def plain(self) -> str:
        """The text without bold type."""
        return self.strong + self.rest


def full(
    entry: Entry,
    what: Shown,
    decimals: int | None = 1,
    *,
    sign: str = "",
    rank: str = "",
    same: str = "",
    footnotes: str = "",
    beside: bool = True,
) -> Text:
    """Format `ours [paper's]`; metrics in points also have the difference.

    Args:
        decimals: of the difference; None = without it, since the paper has other data.
        sign: behind our number, which it makes bold.
        rank: behind our number in brackets.
        same: the letters behind our number.
        footnotes: the letters behind the paper's number.
        beside: whether the paper's number is printed beside ours.
    """
    match what:
        case Parts():
            number, theirs = _parts(entry, what.parts), _papers_bound(entry, what.paper_number)
            return Text("", f"{number}{same} [{theirs}{footnotes}]")
        case Setting():
            return Text("", _setting(entry, footnotes))
    number = ours(entry, what) + (f" ({rank})" if rank else "") + same
    strong, number = (f"{number} {sign}", "") if sign else ("", number)
    if not what.compared or not beside:
        return Text(strong, number)
    gap = difference(entry, what) if what.points and decimals is not None else None
    extra = f", {gap:+.{decimals}f}" if gap is not None and math.isfinite(gap) else ""
    return Text(strong, f"{number} [{papers(entry, what)}{footnotes}{extra}]")


def _setting(entry: Entry, footnotes: str) -> str:
    """Format a value of the configuration; it can differ only from one that the paper has."""
    theirs = entry.paper.get("value", MISSING)
    differs = entry.cell.value != theirs != MISSING
    return f"{entry.cell.value} [{theirs}{footnotes}]{DIFFERS if differs else ''}"


def ours(entry: Entry, metric: Metric) -> str:
    """Format our number as the paper prints the metric; `–` if nothing was measured.

    An entry with diverged runs states their number in every column.
    """
    values = entry.values(metric)
    if not values:
        return _nothing(entry)
    spread = mean_and_spread(values)[1]
    kind = entry.records[0]["epoch_kind"]
    text = metric.text(Sample(metric.centre(values), spread, entry.sign, kind))
    text += UNCONVERGED if metric.finding and unconverged(entry, metric.finding) else ""
    lacking = len(values) < len(entry.records) or entry.diverged()
    return text + (_state(entry, len(values), metric.points) if metric.points or lacking else "")


def unconverged(entry: Entry, *findings: str | float) -> bool:
    """Whether the convergence check of a finding failed in a run of the entry."""
    reports = [record["report"] for record in entry.records]
    return any(doubts(reports, name, False) for name in findings if isinstance(name, str))


def _state(entry: Entry, n: int, accuracy: bool) -> str:
    """How many of the requested seeds have a number, diverged and collapsed; empty for all, none.

    Args:
        accuracy: whether the number is one, so that collapsed runs are stated.
    """
    requested, diverged = len(entry.requested), entry.diverged()
    collapsed = entry.collapsed if accuracy else 0
    parts = [f"n={n} of {requested}"] if n < requested else []
    parts += [f"{diverged} diverged"] if diverged else []
    parts += [f"{collapsed} collapsed"] if collapsed else []
    return f" ({', '.join(parts)})" if parts else ""


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


def part_of(part: Part, record: Record) -> float | None:
    """A part of an entry: the product of its factors.

    The result is None if a factor in the report is missing, None, or was not finite.
    """
    report = record["report"]
    factors = [number(report, each) if isinstance(each, str) else each for each in part.of]
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _parts(entry: Entry, parts: tuple[Part, ...]) -> str:
    """Format our numbers side by side, each as the mean over seeds."""
    if not entry.records:
        return _nothing(entry)
    text, fewest = "", len(entry.records)
    for part in parts:
        values = [part_of(part, record) for record in entry.records]
        numbers = [value for value in values if value is not None]
        text += part.before + (shown(statistics.fmean(numbers)) if numbers else part.none)
        text += UNCONVERGED if unconverged(entry, *part.of) else ""
        fewest = min(fewest, len(numbers) or fewest)
    return text + _state(entry, fewest, False)


def _papers_bound(entry: Entry, column: str) -> str:
    """Format the paper's number with powers of ten as printed, and `<` before a bound."""
    text = entry.paper.get(column, "")
    bound = "< " if entry.paper.get("relation") == "<" else ""
    return bound + power(text) if text else MISSING
