"""An HTML document of a table: no script, no other file; dark and light, and usable on a phone.

The attribute `data-cell` of an entry counts the suite's cells (runner/tables/leads.py).
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from runner.suites.expand import Suite
from runner.suites.page import Line
from runner.tables.text import Text

STYLE = Path(__file__).with_name("page.css")
PAPERS = re.compile(r"^(|.*\S) (\[[^\[\]]*\].*)$")  # `ours [the paper's]`, ours without its bold
AGAIN = ' class="again"'  # of a label that the paper prints once for several lines
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def document(suite: Suite, title: str, rows: Sequence[Sequence[Text]], notes: Sequence[str]) -> str:
    """A whole document with a heading, the table and the notes below it.

    Args:
        rows: the printed cells of each line, labels included.
    """
    items = "".join(f"<li>{escape(note)}</li>\n" for note in notes)
    body = (
        f"<h1>{escape(title)}</h1>\n"
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table>\n<thead>\n{_heads(suite)}</thead>\n<tbody>\n{_body(suite, rows)}</tbody>\n"
        f'</table></div>\n<ul class="notes">\n{items}</ul>'
    )
    style = STYLE.read_text(encoding="utf-8")
    return DOCUMENT.format(title=escape(title), style=style, body=body)


def _heads(suite: Suite) -> str:
    """The header lines."""
    lines = []
    for head in suite.page.heads:
        cells = (
            f'<th scope="colgroup" colspan="{span}">{escape(text)}</th>'
            if span > 1
            else f'<th scope="col">{escape(text)}</th>'
            for text, span in head
        )
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    return "".join(lines)


def _body(suite: Suite, rows: Sequence[Sequence[Text]]) -> str:
    """The lines below the header. A label that is printed once for several lines is repeated."""
    numbers = {key: number for number, key in enumerate(suite.cells)}
    lines, above = list[str](), [""] * suite.page.labels
    for line, row in zip(suite.page.lines, rows, strict=True):
        style = ' class="ruled"' if line.ruled and lines else ""
        if not line.entries:
            head = f'<th scope="rowgroup" colspan="{len(row)}">{escape(row[0].plain)}</th>'
            lines.append(f'<tr class="panel">{head}</tr>\n')
            continue
        labels = [text.plain for text in row[: len(line.labels)]]
        printed = [label or last for label, last in zip(labels, above, strict=True)]
        heads = "".join(
            f'<th scope="row"{"" if label else AGAIN}>{escape(text)}</th>'
            for label, text in zip(labels, printed, strict=True)
        )
        above = printed
        lines.append(f"<tr{style}>{heads}{_cells(line, row, numbers)}</tr>\n")
    return "".join(lines)


def _cells(line: Line, row: Sequence[Text], numbers: dict[tuple[str, str], int]) -> str:
    """The entries of a line."""
    texts = row[len(line.labels) :]
    found = []
    for at, text in zip(line.entries, texts, strict=False):
        number = f' data-cell="{numbers[at[0]]}"' if at else ""
        found.append(f"<td{number}>{_marked(text)}</td>")
    return "".join(found)


def _marked(text: Text) -> str:
    """An entry with its bold beginning and the paper's number in elements of their own."""
    strong = f"<strong>{escape(text.strong)}</strong>" if text.strong else ""
    match = PAPERS.match(text.rest)
    if match is None:
        return strong + escape(text.rest)
    return f'{strong}{escape(match[1])} <span class="paper">{escape(match[2])}</span>'
