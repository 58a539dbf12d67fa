"""The metrics of a table: our number, the paper's, and their difference, as the page prints them."""

import math
import statistics
from typing import Any

from runner.suites.numbers import mean_and_spread, power, shown
from runner.tables.entries import Entry

MISSING = "–"
DIFFERS = " ≠"  # after a value that is not the paper's

DAGGER = "†"  # after a number that the paper quotes
POINTS = ("accuracy", "top5")  # metrics in percent, whose difference to the paper's is printed


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
