"""A table as text, Markdown, LaTeX, HTML and CSV, in the paper's layout: title, two header lines, rows in the paper's order."""

import html
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from runner.files import atomically
from runner.suites.expand import Table
from runner.suites.page import Line
from runner.suites.titles import title
from runner.suites.verdicts import as_table, write_claims
from runner.tables.captions import caption, findings
from runner.tables.claims import compared
from runner.tables.entries import Entry, entries, metrics, number
from runner.tables.metrics import FURTHER, MISSING, PAPER_COLUMN, full, part_of

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
WRAP = 18  # characters of a column's head before a terminal breaks it
Found = dict[tuple[str, str], Entry]


def _rows(table: Table, found: Found) -> list[list[str]]:
    """The printed lines; a panel's head is a line with empty cells."""
    width = max(len(line.labels) + len(line.entries) for line in table.page.lines)
    rows = [[*line.labels, *(full(found[at[0]], at[1]) if at else MISSING for at in line.entries)] for line in table.page.lines]
    return [row + [""] * (width - len(row)) for row in rows]


def _ruled(table: Table, rows: Sequence[Any], rule: Any) -> list[Any]:
    """The printed lines with a rule above every panel or group but the first."""
    above = [rule if i and line.ruled else None for i, line in enumerate(table.page.lines)]
    return [item for pair in zip(above, rows, strict=True) for item in pair if item is not None]


def _heads(table: Table) -> list[list[str]]:
    """The header lines; a text over several columns stands over the first of them."""
    return [[text if i == 0 else "" for text, span in head for i in range(span)] for head in table.page.heads]


def as_text(table: Table, found: Found) -> str:
    """For a terminal."""
    above = _heads(table)
    heads = ["\n".join(texts) for texts in zip(*above, strict=True)] if len(above) > 1 else ["\n".join(wrap(text, WRAP)) for text in above[0]]
    body = tabulate(_ruled(table, _rows(table, found), SEPARATING_LINE), headers=heads, tablefmt="simple", disable_numparse=True)
    notes = [*caption(table, found), *(f"Appendix: {line}" for line in findings(table, found))]
    return "\n".join([title(table), "", body, "", *notes]) + "\n"


def as_markdown(table: Table, found: Found) -> str:
    """A pipe table; Markdown has one header line, so a second one is the first row."""
    first, *others = _heads(table)
    rows = [row if line.entries else [f"**{row[0]}**", *row[1:]] for line, row in zip(table.page.lines, _rows(table, found), strict=True)]
    body = tabulate([*([f"**{cell}**" for cell in head] for head in others), *rows], headers=first, tablefmt="pipe", disable_numparse=True)
    notes = [*caption(table, found), *(f"Appendix: {line}" for line in findings(table, found))]
    return f"**{title(table)}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def as_latex(table: Table, found: Found) -> str:
    """booktabs; needs \\usepackage{booktabs}. Text is escaped; ±, χ and the dash are LaTeX's own."""
    labels, columns = table.page.labels, len(_heads(table)[0])
    body = [_tex_row(line, row) for line, row in zip(table.page.lines, _rows(table, found), strict=True)]
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(title(table))}. {_tex(' '.join(caption(table, found)))}}}",
        f"\\begin{{tabular}}{{{'l' * labels}{'r' * (columns - labels)}}}",
        "\\toprule",
        *(line for head in table.page.heads for line in _tex_head(head)),
        "\\midrule",
        *_ruled(table, body, "\\midrule"),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_row(line: Line, row: list[str]) -> str:
    """A printed line; a panel's head spans it."""
    cells = [_tex(cell) for cell in row] if line.entries else [f"\\multicolumn{{{len(row)}}}{{l}}{{{_tex(row[0])}}}"]
    return " & ".join(cells) + " \\\\"


def _tex_head(head: tuple[tuple[str, int], ...]) -> list[str]:
    """A header line, and rules under the texts that span several columns."""
    cells = [_tex(text) if span == 1 else f"\\multicolumn{{{span}}}{{c}}{{{_tex(text)}}}" for text, span in head]
    ends = list(accumulate(span for _, span in head))
    rules = "".join(f"\\cmidrule(lr){{{end - span + 1}-{end}}}" for (_, span), end in zip(head, ends, strict=True) if span > 1)
    return [" & ".join(cells) + " \\\\", *([rules] if rules else [])]


def _tex(text: str) -> str:
    for plain, escaped in (("\\", "\\textbackslash "), ("&", "\\&"), ("%", "\\%"), ("_", "\\_"), ("#", "\\#"), ("$", "\\$"), *SIGNS.items()):
        text = text.replace(plain, escaped)
    return re.sub(r"\^(-?\w+)", r"$^{\1}$", text)


def as_html(table: Table, found: Found) -> str:
    """A table element with two header rows, a heading above and the notes below."""
    over = [[text for text, span in head for _ in range(span)] for head in table.page.heads]
    columns = pd.MultiIndex.from_tuples(list(zip(*over, strict=True))) if len(over) > 1 else over[0]
    body = pd.DataFrame(_rows(table, found), columns=columns).to_html(index=False, border=0)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in [*caption(table, found), *findings(table, found)])
    return f"<h3>{html.escape(title(table))}</h3>\n{body}\n<ul>{notes}</ul>\n"


def as_csv(table: Table, found: Found) -> str:
    """Long form: a line for every row, network and seed."""
    return str(pd.DataFrame(long_form(table, found)).to_csv(index=False))


FORMATS: dict[str, Callable[[Table, Found], str]] = {"txt": as_text, "md": as_markdown, "tex": as_latex, "csv": as_csv, "html": as_html}


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def write_table(table: Table, results_dir: Path) -> str:
    """Write the table in every format, and the verdicts on its claims, to <results_dir>/tables; the text of both."""
    found = entries(table, results_dir)
    for ending, render in FORMATS.items():
        text = render(table, found)
        atomically(results_dir / "tables" / f"{table.name}.{ending}", partial(_write, text=text))
    lines = compared(table, found)
    if lines:
        write_claims(lines, results_dir / "tables", table.name)
    return as_text(table, found) + (f"\n{as_table(lines)}\n" if lines else "")


def long_form(table: Table, found: dict[tuple[str, str], Entry]) -> list[dict[str, Any]]:
    """A line for every row, network and seed, measured or not, with the paper's numbers: for the CSV."""
    lines, more = [], {metric: column for metric, column in FURTHER.items() if metric in metrics(table)}
    for (row, column), entry in found.items():
        printed, network = {job.run_id for job in entry.jobs}, entry.cell.network
        paper = {f"paper_{metric}": entry.paper.get(name, "") for metric, name in (*PAPER_COLUMN.items(), ("accuracy_std", "accuracy_std"))}
        paper |= {f"paper_{column}": entry.paper.get(column, "") for column in more.values()}
        paper |= {f"paper_{name}": entry.paper.get(name, "") for name in ("relation", table.spec.get("paper_number")) if name in entry.paper}
        for job in entry.cell.jobs or (None,):
            record = entry.done.get(job.run_id, {}) if job else {}
            lines.append(
                {
                    "table": table.name,
                    "row": row,
                    "column": column,
                    "network": network,
                    "model": job.run.model.name if job else table.networks.get(network, ""),
                    "density_asked": job.run.density if job else "",
                    "printed": bool(job and job.run_id in printed),
                    "seed": job.run.seed if job else "",
                    "run_id": job.run_id if job else "",
                    **{metric: record.get(metric, "") for metric in ("sparsity", "accuracy", "epochs", "runtime_s", "accuracy_best", "val_accuracy", "scale")},
                    **{column: number(record, metric) if record else "" for metric, column in more.items()},
                    **{part["name"]: part_of(part, record) if record else "" for part in table.spec.get("parts", [])},
                    **paper,
                    **({"value": entry.cell.value, "paper_value": entry.paper.get("value", "")} if entry.cell.value is not None else {}),
                    "missing": entry.cell.missing or ("" if record or entry.cell.value is not None else "not run"),
                }
            )
    return lines
