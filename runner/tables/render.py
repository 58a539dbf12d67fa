"""Render tables as text, Markdown, LaTeX, HTML and CSV in the paper's layout."""

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from runner.files import atomically
from runner.spec.findings import is_diverged
from runner.spec.planned import PlannedRun
from runner.suites.expand import Suite
from runner.suites.metrics import METRICS, Metric
from runner.suites.page import Key, Line
from runner.suites.schema_blocks import MatrixTable
from runner.suites.titles import other_data, title
from runner.suites.verdicts import as_table, write_claims
from runner.tables.captions import caption, findings
from runner.tables.claims import compared
from runner.tables.entries import Entry, entries, metrics, table_spec
from runner.tables.html import document
from runner.tables.text import DIVERGED, MISSING, full, part_of

SIGNS = {
    "±": "$\\pm$",
    "†": "$\\dagger$",
    "–": "--",
    "χ": "$\\chi$",
    "×": "$\\times$",
    "∆": "$\\Delta$",
    "≠": "$\\neq$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}  # in LaTeX
WRAP = 18  # maximum characters per line of a column's head in a terminal
Entries = dict[Key, Entry]


def _rows(suite: Suite, found: Entries) -> list[list[str]]:
    """The printed lines; the head of a panel is a line with empty cells."""
    width = max(len(line.labels) + len(line.entries) for line in suite.page.lines)
    decimals = None if other_data(suite) else table_spec(suite).decimals
    rows = [
        [
            *line.labels,
            *(full(found[at[0]], at[1], decimals) if at else MISSING for at in line.entries),
        ]
        for line in suite.page.lines
    ]
    return [row + [""] * (width - len(row)) for row in rows]


def _ruled(suite: Suite, rows: Sequence[Any], rule: Any) -> list[Any]:
    """Insert a rule above every panel or group except the first."""
    above = [rule if i and line.ruled else None for i, line in enumerate(suite.page.lines)]
    return [item for pair in zip(above, rows, strict=True) for item in pair if item is not None]


def _heads(suite: Suite) -> list[list[str]]:
    """The header lines; a text that spans several columns is in the first of them."""
    return [
        [text if i == 0 else "" for text, span in head for i in range(span)]
        for head in suite.page.heads
    ]


def as_text(suite: Suite, found: Entries) -> str:
    """Format the table for a terminal."""
    above = _heads(suite)
    if len(above) > 1:
        heads = ["\n".join(texts) for texts in zip(*above, strict=True)]
    else:
        heads = ["\n".join(wrap(text, WRAP)) for text in above[0]]
    body = tabulate(
        _ruled(suite, _rows(suite, found), SEPARATING_LINE),
        headers=heads,
        tablefmt="simple",
        disable_numparse=True,
    )
    notes = [*caption(suite, found), *(f"Appendix: {line}" for line in findings(suite, found))]
    return "\n".join([title(suite), "", body, "", *notes]) + "\n"


def as_markdown(suite: Suite, found: Entries) -> str:
    """Format a pipe table; Markdown has one header line, so further ones become rows."""
    first, *others = _heads(suite)
    rows = [
        row if line.entries else [f"**{row[0]}**", *row[1:]]
        for line, row in zip(suite.page.lines, _rows(suite, found), strict=True)
    ]
    body = tabulate(
        [*([f"**{cell}**" for cell in head] for head in others), *rows],
        headers=first,
        tablefmt="pipe",
        disable_numparse=True,
    )
    notes = [*caption(suite, found), *(f"Appendix: {line}" for line in findings(suite, found))]
    return f"**{title(suite)}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def as_latex(suite: Suite, found: Entries) -> str:
    """Format a LaTeX table, which needs \\usepackage{booktabs}.

    Text is escaped, and the characters of SIGNS become LaTeX commands.
    """
    labels, columns = suite.page.labels, len(_heads(suite)[0])
    body = [
        _tex_row(line, row) for line, row in zip(suite.page.lines, _rows(suite, found), strict=True)
    ]
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(title(suite))}. {_tex(' '.join(caption(suite, found)))}}}",
        f"\\begin{{tabular}}{{{'l' * labels}{'r' * (columns - labels)}}}",
        "\\toprule",
        *(line for head in suite.page.heads for line in _tex_head(head)),
        "\\midrule",
        *_ruled(suite, body, "\\midrule"),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_row(line: Line, row: list[str]) -> str:
    """Format a printed line; the head of a panel spans all columns."""
    cells = [_tex(cell) for cell in row]
    if not line.entries:
        cells = [f"\\multicolumn{{{len(row)}}}{{l}}{{{cells[0]}}}"]
    return " & ".join(cells) + " \\\\"


def _tex_head(head: tuple[tuple[str, int], ...]) -> list[str]:
    """Format a header line, with rules under the texts that span several columns."""
    cells = [
        _tex(text) if span == 1 else f"\\multicolumn{{{span}}}{{c}}{{{_tex(text)}}}"
        for text, span in head
    ]
    ends = list(accumulate(span for _, span in head))
    rules = "".join(
        f"\\cmidrule(lr){{{end - span + 1}-{end}}}"
        for (_, span), end in zip(head, ends, strict=True)
        if span > 1
    )
    return [" & ".join(cells) + " \\\\", *([rules] if rules else [])]


def _tex(text: str) -> str:
    for plain, escaped in (
        ("\\", "\\textbackslash "),
        ("&", "\\&"),
        ("%", "\\%"),
        ("_", "\\_"),
        ("#", "\\#"),
        ("$", "\\$"),
        *SIGNS.items(),
    ):
        text = text.replace(plain, escaped)
    return re.sub(r"\^(-?\w+)", r"$^{\1}$", text)


def as_html(suite: Suite, found: Entries) -> str:
    """Format a document with a heading, the table and the notes."""
    notes = [*caption(suite, found), *findings(suite, found)]
    return document(suite, title(suite), _rows(suite, found), notes)


def as_csv(suite: Suite, found: Entries) -> str:
    """Format the long form: one line per row, network and seed."""
    return str(pd.DataFrame(long_form(suite, found)).to_csv(index=False))


FORMATS: dict[str, Callable[[Suite, Entries], str]] = {
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
    found = entries(suite, results_dir)
    for ending in endings:
        text = FORMATS[ending](suite, found)
        atomically(
            results_dir / "tables" / f"{suite.file_name}.{ending}", partial(_write, text=text)
        )
    lines = compared(suite, found)
    if lines:
        write_claims(lines, results_dir / "tables", suite.file_name)
    return as_text(suite, found) + (f"\n{as_table(lines)}\n" if lines else "")


def long_form(suite: Suite, found: Entries) -> list[dict[str, Any]]:
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
) -> dict[str, Any]:
    """The line of one run, or the only line of an entry without runs."""
    network, value = entry.cell.network, entry.cell.value
    printed = {chosen.run_id for chosen in entry.jobs}
    values = {} if value is None else {"value": value, "paper_value": entry.paper.get("value", "")}
    record = entry.done.get(job.run_id, {}) if job else {}
    missing = "" if record or value is not None else "not run"
    if record and is_diverged(record):
        record, missing = {}, DIVERGED
    return {
        "table": suite.file_name,
        "row": key[0],
        "column": key[1],
        "network": network,
        "model": job.run.model.name if job else suite.networks.get(network, ""),
        "density_asked": job.run.density if job else "",
        "printed": bool(job and job.run_id in printed),
        "seed": job.run.seed if job else "",
        "run_id": job.run_id if job else "",
        **_measured(suite, record, further),
        **_papers(suite, entry, further),
        **values,
        "missing": missing,
    }


def _measured(suite: Suite, record: dict[str, Any], further: list[Metric]) -> dict[str, Any]:
    """The numbers of a run; empty texts for an unfinished run."""
    always = {
        metric.csv: metric.value(record) if record else "" for metric in METRICS if metric.always
    }
    more = {metric.csv: metric.value(record) if record else "" for metric in further}
    parts = suite.spec.parts if isinstance(suite.spec, MatrixTable) else ()
    return {
        **always,
        "scale": record.get("scale", ""),
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
