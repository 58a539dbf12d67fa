"""Render tables as text, Markdown, LaTeX, HTML and CSV in the paper's layout."""

import csv
import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TypeAlias

from tabulate import SEPARATING_LINE, tabulate

from runner import latex
from runner.files import atomically
from runner.spec.findings import is_diverged
from runner.spec.planned import PlannedRun
from runner.spec.record import Record
from runner.suites.expand import Suite
from runner.suites.metrics import METRICS, Metric
from runner.suites.page import Key, Line
from runner.suites.schema_blocks import MatrixTable
from runner.suites.titles import title
from runner.suites.verdicts import as_table, write_claims
from runner.tables.captions import caption, findings
from runner.tables.claims import compared
from runner.tables.entries import Entry, entries, metrics
from runner.tables.html import document
from runner.tables.marks import marks_of
from runner.tables.rows import header_lines, lines_of_page, ruled
from runner.tables.text import DIVERGED, Text, part_of

WRAP = 18  # maximum characters per line of a column's head in a terminal
Entries = dict[Key, Entry]
CsvLine: TypeAlias = dict[str, str | float | None]  # by column; None is written as ""


@dataclass(frozen=True)
class Sheet:
    """A table with what all of its forms print.

    Args:
        lines: labels and entries.
        notes: the caption.
        appendix: values that the methods found.
    """

    suite: Suite
    found: Entries
    lines: list[list[Text]]
    notes: list[str]
    appendix: list[str]


def sheet_of(suite: Suite, found: Entries) -> Sheet:
    """The printed table. Its signs and footnotes need tests of all entries: they are made once."""
    marks = marks_of(suite, found)
    lines, notes = lines_of_page(suite, found, marks), caption(suite, found, marks)
    return Sheet(suite, found, lines, notes, findings(suite, found))


def as_text(sheet: Sheet) -> str:
    """Format the table for a terminal."""
    suite, above = sheet.suite, header_lines(sheet.suite)
    if len(above) > 1:
        heads = ["\n".join(texts) for texts in zip(*above, strict=True)]
    else:
        heads = ["\n".join(wrap(text, WRAP)) for text in above[0]]
    rows = [[text.plain for text in line] for line in sheet.lines]
    body = tabulate(
        ruled(suite, rows, SEPARATING_LINE),
        headers=heads,
        tablefmt="simple",
        disable_numparse=True,
    )
    notes = [*sheet.notes, *(f"Appendix: {line}" for line in sheet.appendix)]
    return "\n".join([title(suite), "", body, "", *notes]) + "\n"


def as_markdown(sheet: Sheet) -> str:
    """Format a pipe table; Markdown has one header line, so further ones become rows."""
    suite, (first, *others) = sheet.suite, header_lines(sheet.suite)
    rows = [
        [_bold_markdown(text, whole=not line.entries) for text in row]
        for line, row in zip(suite.page.lines, sheet.lines, strict=True)
    ]
    body = tabulate(
        [*([f"**{cell}**" for cell in head] for head in others), *rows],
        headers=first,
        tablefmt="pipe",
        disable_numparse=True,
    )
    notes = [*sheet.notes, *(f"Appendix: {line}" for line in sheet.appendix)]
    return f"**{title(suite)}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _bold_markdown(text: Text, whole: bool) -> str:
    """Markdown of a text, of which the beginning or all is bold."""
    strong, rest = (text.plain, "") if whole else (text.strong, text.rest)
    return (f"**{strong}**" if strong else "") + rest


def as_latex(sheet: Sheet) -> str:
    """Format a LaTeX table, which needs \\usepackage{booktabs,graphicx}.

    The caption has the number that LaTeX gives it; the paper's is in a comment.
    """
    suite = sheet.suite
    labels, columns = suite.page.labels, len(header_lines(suite)[0])
    body = [
        _tex_row(line, texts) for line, texts in zip(suite.page.lines, sheet.lines, strict=True)
    ]
    heading, full_title = suite.spec.heading, title(suite)
    return f"% {latex.escape(heading)}\n" + latex.table(
        suite.spec.title + full_title.removeprefix(heading),
        suite.file_name,
        "l" * labels + "r" * (columns - labels),
        suite.page.heads,
        ruled(suite, body, "\\midrule"),
        sheet.notes,
    )


def _tex_row(line: Line, texts: list[Text]) -> str:
    """Format a printed line; the head of a panel spans all columns."""
    if not line.entries:
        return latex.row([latex.spanning(latex.escape(texts[0].plain), len(texts))])
    return latex.row([_bold_latex(text) for text in texts])


def _bold_latex(text: Text) -> str:
    strong = f"\\textbf{{{latex.escape(text.strong)}}}" if text.strong else ""
    return strong + latex.escape(text.rest)


def as_html(sheet: Sheet) -> str:
    """Format a document with a heading, the table and the notes."""
    notes = [*sheet.notes, *sheet.appendix]
    return document(sheet.suite, title(sheet.suite), sheet.lines, notes)


def as_csv(sheet: Sheet) -> str:
    """Format the long form: one line per row, network and seed."""
    lines = long_form(sheet.suite, sheet.found)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


FORMATS: Mapping[str, Callable[[Sheet], str]] = {
    "txt": as_text,
    "md": as_markdown,
    "tex": as_latex,
    "csv": as_csv,
    "html": as_html,
}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_table(suite: Suite, results_dir: Path, endings: Collection[str] = tuple(FORMATS)) -> str:
    """Write the table and the verdicts on its claims to <results_dir>/tables.

    Args:
        endings: the formats of the table, some of FORMATS.

    Returns:
        The text of the table and of the verdicts.
    """
    sheet = sheet_of(suite, entries(suite, results_dir))
    for ending in endings:
        text = FORMATS[ending](sheet)
        atomically(
            results_dir / "tables" / f"{suite.file_name}.{ending}", partial(_write, text=text)
        )
    lines = compared(suite, sheet.found)
    if lines:
        write_claims(lines, results_dir / "tables", suite.file_name)
    return as_text(sheet) + (f"\n{as_table(lines)}\n" if lines else "")


def long_form(suite: Suite, found: Entries) -> list[CsvLine]:
    """The lines of the CSV: one per row, network and seed, with the paper's numbers.

    Unfinished and diverged runs have lines without our numbers.
    """
    further = [metric for metric in metrics(suite) if metric.csv and not metric.always]
    return [
        _csv_line(suite, key, entry, job, further)
        for key, entry in found.items()
        for job in entry.cell.jobs or (None,)
    ]


def _csv_line(
    suite: Suite, key: Key, entry: Entry, job: PlannedRun | None, further: list[Metric]
) -> CsvLine:
    """The line of one run, or the only line of an entry without runs."""
    network, value = entry.cell.network, entry.cell.value
    printed = {chosen.run_id for chosen in entry.jobs}
    values = {} if value is None else {"value": value, "paper_value": entry.paper.get("value", "")}
    record = entry.done.get(job.run_id) if job else None
    missing = "" if record or value is not None else "not run"
    if record and is_diverged(record):
        record, missing = None, DIVERGED
    return {
        "table": suite.file_name,
        "row": key[0],
        "column": key[1],
        "network": network,
        "model": job.outline.model if job else suite.networks.get(network, ""),
        "density_asked": job.outline.density if job else "",
        "printed": bool(job and job.run_id in printed),
        "seed": job.outline.seed if job else "",
        "run_id": job.run_id if job else "",
        **_measured(suite, record, further),
        **_papers(suite, entry, further),
        **values,
        "missing": missing,
    }


def _measured(suite: Suite, record: Record | None, further: list[Metric]) -> CsvLine:
    """The numbers of a run; empty texts for an unfinished run."""
    always = {
        metric.csv: metric.value(record) if record else "" for metric in METRICS if metric.always
    }
    more = {metric.csv: metric.value(record) if record else "" for metric in further}
    parts = suite.spec.parts if isinstance(suite.spec, MatrixTable) else ()
    return {
        **always,
        "scale": record["scale"] if record else "",
        **more,
        **{part.name: part_of(part, record) if record else "" for part in parts},
    }


def _papers(suite: Suite, entry: Entry, further: list[Metric]) -> dict[str, str]:
    """The paper's numbers for an entry."""
    always = {
        metric.paper_csv: entry.paper.get(metric.paper_column, "")
        for metric in METRICS
        if metric.always and metric.paper_csv
    }
    more = {metric.paper_csv: entry.paper.get(metric.paper_column, "") for metric in further}
    bound = suite.spec.paper_number if isinstance(suite.spec, MatrixTable) else ""
    bounds = {
        f"paper_{name}": entry.paper[name] for name in ("relation", bound) if name in entry.paper
    }
    return {**always, "paper_accuracy_std": entry.paper.get("accuracy_std", ""), **more, **bounds}
