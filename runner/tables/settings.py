"""Print settings beside the papers': a page for each table, and a summary of all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from runner.suites.settings import (
    EQUAL,
    EXPLAINED,
    NOT_STATED,
    UNEXPLAINED,
    Compared,
    ComparedEntry,
    ComparedTable,
)

HEADS = ("setting", "ours", "", "the paper's", "where it is stated; why ours differs")
WIDTHS = (28, 26, None, 26, 56)  # maximum widths in a terminal
MARKS = {EQUAL: "", NOT_STATED: "", EXPLAINED: "≠", UNEXPLAINED: "≠ ?"}
UNKNOWN = "UNEXPLAINED."
Lines = list[tuple[str, ...]]


@dataclass(frozen=True)
class Block:
    """Lines of a page below a heading."""

    heading: str
    lines: Lines


def as_text(table: ComparedTable) -> str:
    """The page of a table for a terminal."""
    return "\n\n".join([_title(table), *map(_block_text, _blocks(table)), _foot(table)]) + "\n"


def as_markdown(table: ComparedTable) -> str:
    """The page of a table in Markdown."""
    blocks = [f"### {b.heading}\n\n{_markdown(HEADS, b.lines)}" for b in _blocks(table)]
    return "\n\n".join([f"## {_title(table)}", *blocks, _foot(table)]) + "\n"


def summary_as_text(tables: Sequence[ComparedTable]) -> str:
    """The summary of tables for a terminal: counts, and each difference once."""
    counts = tabulate(list(_count_lines(tables)), COUNTS, tablefmt="simple")
    return f"{counts}\n\n{_block_text(Block('Differences', _differences(tables)), FOUND)}\n"


def summary_as_markdown(tables: Sequence[ComparedTable]) -> str:
    """The summary of tables in Markdown."""
    counts = _markdown(COUNTS, list(_count_lines(tables)))
    return f"{counts}\n\n## Differences\n\n{_markdown(FOUND, _differences(tables))}\n"


FORMATS: dict[str, Callable[[ComparedTable], str]] = {"txt": as_text, "md": as_markdown}
SUMMARIES: dict[str, Callable[[Sequence[ComparedTable]], str]] = {
    "txt": summary_as_text,
    "md": summary_as_markdown,
}
COUNTS = ("table", "settings", "stated", "not stated", "differences", "unexplained")
FOUND = ("setting", "ours", "", "the paper's", "tables; where it is stated; why ours differs")


def _title(table: ComparedTable) -> str:
    return f"{table.name}, {table.heading.rstrip('.')}: our settings beside the paper's"


def _foot(table: ComparedTable) -> str:
    differ, unknown = table.count(EXPLAINED, UNEXPLAINED), table.count(UNEXPLAINED)
    stated = table.count() - table.count(NOT_STATED)
    return (
        f"{table.note}\n\n{table.count()} settings of rows, {stated} stated by the paper or its"
        f" sources; {differ} differ, {unknown} of them unexplained."
    )


def _blocks(table: ComparedTable) -> Iterator[Block]:
    """The settings that all rows share, column by column, then those of each row."""
    rows: dict[str, list[ComparedEntry]] = {}
    for entry in table.entries:
        rows.setdefault(entry.row, []).append(entry)
    names = dict.fromkeys(c.setting for entry in table.entries for c in entry.settings)
    shared = {name for name in names if len(rows) > 1 and _is_shared(name, table.entries)}
    if shared:
        first = next(iter(rows.values()))
        yield Block("All entries", _lines(first, [name for name in names if name in shared]))
    for row, entries in rows.items():
        if lines := _lines(entries, [name for name in names if name not in shared]):
            yield Block(row, lines)


def _is_shared(name: str, entries: Sequence[ComparedEntry]) -> bool:
    """Whether all entries have the setting, and it is the same in all entries of a column."""
    at: dict[tuple[tuple[str, str], ...], set[tuple[Compared, ...]]] = {}
    for entry in entries:
        at.setdefault(entry.at, set()).add(entry.named(name))
    return all(len(values) == 1 and all(values) for values in at.values())


def _lines(entries: Sequence[ComparedEntry], names: Iterable[str]) -> Lines:
    """The lines of a row: a line for each value of a setting, with the columns that have it."""
    lines: Lines = []
    for name in names:
        having: dict[Compared, list[ComparedEntry]] = {}
        for entry in entries:
            for compared in entry.named(name):
                having.setdefault(compared, []).append(entry)
        lines += [_line(c, _columns(having[c], entries)) for c in having]
    return lines


def _columns(some: Sequence[ComparedEntry], entries: Sequence[ComparedEntry]) -> str:
    """The columns of `some` of a row's entries; empty if these are all."""
    if len(some) == len(entries):
        return ""
    for axis in dict(entries[0].at):
        values = list(dict.fromkeys(dict(entry.at)[axis] for entry in some))
        if len(some) == sum(dict(entry.at)[axis] in values for entry in entries):
            return ", ".join(values)
    return "; ".join(", ".join(dict(entry.at).values()) for entry in some)


def _line(compared: Compared, columns: str = "") -> tuple[str, ...]:
    name = compared.setting + (f" ({columns})" if columns else "")
    why = compared.because or (UNKNOWN if compared.state == UNEXPLAINED else "")
    source = f"{compared.source}{': ' if why else ''}{why}"
    return name, compared.ours, MARKS[compared.state], compared.paper, source


def _count_lines(tables: Sequence[ComparedTable]) -> Iterator[tuple[str, ...]]:
    for table in tables:
        counts = (
            table.count(),
            table.count(EQUAL, EXPLAINED, UNEXPLAINED),
            table.count(NOT_STATED),
            table.count(EXPLAINED, UNEXPLAINED),
            table.count(UNEXPLAINED),
        )
        yield table.name, *map(str, counts)


def _differences(tables: Sequence[ComparedTable]) -> Lines:
    """Each difference once, with the tables that have it; unexplained ones first."""
    found: dict[Compared, list[str]] = {}
    for table in tables:
        for compared in dict.fromkeys(c for entry in table.entries for c in entry.settings):
            if compared.state in (EXPLAINED, UNEXPLAINED):
                found.setdefault(compared, []).append(table.name)
    ordered = sorted(found, key=lambda compared: compared.state != UNEXPLAINED)
    return [(*(line := _line(c))[:-1], f"{_names(found[c])}; {line[-1]}") for c in ordered]


def _names(tables: Sequence[str]) -> str:
    """Names of tables in short: imc_table01, 02, jackpots_table03."""
    stems: dict[str, list[str]] = {}
    for name in tables:
        stem = name.rstrip("0123456789")
        stems.setdefault(stem, []).append(name.removeprefix(stem))
    return ", ".join(f"{stem}{', '.join(numbers)}" for stem, numbers in stems.items())


def _block_text(block: Block, heads: Sequence[str] = HEADS) -> str:
    body = tabulate(
        block.lines, heads, tablefmt="simple", maxcolwidths=list(WIDTHS), disable_numparse=True
    )
    return f"{block.heading}\n{body}"


def _markdown(heads: Sequence[str], lines: Lines) -> str:
    escaped = [tuple(cell.replace("|", "\\|") for cell in line) for line in lines]
    return tabulate(escaped, heads, tablefmt="pipe", disable_numparse=True)
