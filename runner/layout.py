"""A table as text, Markdown, LaTeX, HTML and CSV, in the paper's layout: title, two header lines, rows in the paper's order."""

import html
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from runner.cells import Table
from runner.store import atomically
from runner.tables import HEADS, Entry, caption, entries, findings, full, long_form, title

Found = dict[tuple[str, str], Entry]


def _rows(table: Table, found: Found) -> list[list[str]]:
    return [[row, *(full(found[row, network], metric) for network in table.networks for metric in table.spec["metrics"])] for row in table.rows]


def _heads(table: Table) -> tuple[list[str], list[str]]:
    """The two header lines; a network's name stands over the first of its columns."""
    metrics = [HEADS[m] for m in table.spec["metrics"]]
    first = ["Neural Network"] + [name if i == 0 else "" for name in table.networks for i in range(len(metrics))]
    return first, ["Metric"] + metrics * len(table.networks)


def as_text(table: Table, found: Found) -> str:
    """For a terminal."""
    heads = [f"{a}\n{b}" for a, b in zip(*_heads(table), strict=True)]
    body = tabulate(_rows(table, found), headers=heads, tablefmt="simple", disable_numparse=True)
    notes = [*caption(table, found), *(f"Appendix: {line}" for line in findings(table, found))]
    return "\n".join([title(table, found), "", body, "", *notes]) + "\n"


def as_markdown(table: Table, found: Found) -> str:
    """A pipe table; Markdown has one header line, so the second is the first row."""
    first, second = _heads(table)
    body = tabulate([[f"**{cell}**" for cell in second], *_rows(table, found)], headers=first, tablefmt="pipe", disable_numparse=True)
    notes = [*caption(table, found), *(f"Appendix: {line}" for line in findings(table, found))]
    return f"**{title(table, found)}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def as_latex(table: Table, found: Found) -> str:
    """booktabs; needs \\usepackage{booktabs}. Text is escaped, ± and the dash are LaTeX's own."""
    metrics = [HEADS[m] for m in table.spec["metrics"]]
    n = len(metrics)
    over = " & ".join(f"\\multicolumn{{{n}}}{{c}}{{{_tex(name)}}}" for name in table.networks)
    rules = "".join(f"\\cmidrule(lr){{{2 + i * n}-{1 + (i + 1) * n}}}" for i in range(len(table.networks)))
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(title(table, found))}. {_tex(' '.join(caption(table, found)))}}}",
        f"\\begin{{tabular}}{{l{'r' * n * len(table.networks)}}}",
        "\\toprule",
        f"Neural Network & {over} \\\\",
        rules,
        " & ".join(["Metric", *metrics * len(table.networks)]) + " \\\\",
        "\\midrule",
        *(" & ".join(_tex(cell) for cell in row) + " \\\\" for row in _rows(table, found)),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    for plain, escaped in (("\\", "\\textbackslash "), ("&", "\\&"), ("%", "\\%"), ("_", "\\_"), ("#", "\\#"), ("$", "\\$"), ("±", "$\\pm$"), ("–", "--")):
        text = text.replace(plain, escaped)
    return text


def as_html(table: Table, found: Found) -> str:
    """A table element with two header rows, a heading above and the notes below."""
    columns = [("Neural Network", "Metric"), *((name, HEADS[m]) for name in table.networks for m in table.spec["metrics"])]
    body = pd.DataFrame(_rows(table, found), columns=pd.MultiIndex.from_tuples(columns)).to_html(index=False, border=0)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in [*caption(table, found), *findings(table, found)])
    return f"<h3>{html.escape(title(table, found))}</h3>\n{body}\n<ul>{notes}</ul>\n"


def as_csv(table: Table, found: Found) -> str:
    """Long form: a line for every row, network and seed."""
    return str(pd.DataFrame(long_form(table, found)).to_csv(index=False))


FORMATS: dict[str, Callable[[Table, Found], str]] = {"txt": as_text, "md": as_markdown, "tex": as_latex, "csv": as_csv, "html": as_html}


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def write_table(table: Table, results_dir: Path) -> str:
    """Write the table in every format to <results_dir>/tables; its text."""
    found = entries(table, results_dir)
    for ending, render in FORMATS.items():
        text = render(table, found)
        atomically(results_dir / "tables" / f"{table.name}.{ending}", partial(_write, text=text))
    return as_text(table, found)
