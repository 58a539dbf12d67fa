"""The printed lines of a table: labels, and entries with their signs and footnotes."""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.suites.expand import Suite
from runner.suites.metrics import Metric
from runner.suites.page import Key, Shown
from runner.suites.titles import other_data
from runner.tables.entries import Entry, table_spec
from runner.tables.marks import Marks, column_of
from runner.tables.text import MISSING, Text, full

Entries = Mapping[Key, Entry]


def lines_of_page(suite: Suite, found: Entries, marks: Marks) -> list[list[Text]]:
    """The printed lines; the head of a panel is a line with empty cells."""
    decimals = _decimals(suite)
    width = max(len(line.labels) + len(line.entries) for line in suite.page.lines)
    lines = [
        [
            *(Text("", label) for label in line.labels),
            *(
                _entry(suite, found, at, decimals, marks) if at else Text("", MISSING)
                for at in line.entries
            ),
        ]
        for line in suite.page.lines
    ]
    return [line + [Text("", "")] * (width - len(line)) for line in lines]


def _decimals(suite: Suite) -> int | None:
    """The decimals of differences to the paper's numbers; None on other data than the paper's."""
    return None if other_data(suite) else table_spec(suite).decimals


def _entry(
    suite: Suite, found: Entries, at: tuple[Key, Shown], decimals: int | None, marks: Marks
) -> Text:
    key, what = at
    metric = what if isinstance(what, Metric) else None
    return full(
        found[key],
        what,
        decimals,
        sign=marks.best.get((key, metric.name), "") if metric else "",
        rank=str(marks.ranks.get((key, metric.name), "")) if metric else "",
        same="" if metric and not metric.points else marks.shared.get(key, ""),
        footnotes=marks.papers.get((key, column_of(what)), ""),
        beside=suite.spec.number is not None or bool(found[key].paper.get(column_of(what))),
    )


def ruled(suite: Suite, rows: Sequence[Any], rule: Any) -> list[Any]:
    """Insert a rule above every panel or group except the first."""
    above = [rule if i and line.ruled else None for i, line in enumerate(suite.page.lines)]
    return [item for pair in zip(above, rows, strict=True) for item in pair if item is not None]


def header_lines(suite: Suite) -> list[list[str]]:
    """The header lines; a text that spans several columns is in the first of them."""
    return [
        [text if i == 0 else "" for text, span in head for i in range(span)]
        for head in suite.page.heads
    ]
