"""What ran, in the labels of a table: a short schedule or an override changes it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner.suites.cells import Cell
from runner.suites.page import CellSpec, Key, Page


def page_as_ran(page: Page, layout: Sequence[CellSpec], cells: Mapping[Key, Cell]) -> Page:
    """The page with the labels of what ran, where a short schedule changed them."""
    rows, heads_of = dict[tuple[Key, str], str](), dict[str, str]()
    for cell in layout:
        for axis in cell.ran:
            asked, ran = cell.labels[axis], cells[cell.key].labels[axis]
            if axis == "method":
                rows[cell.key, asked] = ran
            else:
                heads_of[asked] = ran
    lines = []
    for line in page.lines:
        first = next((at[0] for at in line.entries if at), None)
        labels = tuple(
            rows.get((first, label), label) if first else heads_of.get(label, label)
            for label in line.labels
        )
        lines.append(replace(line, labels=labels))
    heads = [tuple((heads_of.get(text, text), span) for text, span in head) for head in page.heads]
    return replace(page, heads=tuple(heads), lines=tuple(lines))
