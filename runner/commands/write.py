"""Write tables and figures to files."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from runner.files import atomically
from runner.suites.expand import Suite
from runner.suites.file_names import file_name
from runner.tables.leads import leads
from runner.tables.render import FORMATS, write_table


def write(
    table: Suite,
    results_dir: Path,
    forms: Collection[str] = tuple(FORMATS),
    pictures: Collection[str] | None = None,
    with_leads: bool = True,
) -> str:
    """Write a table or draw a figure; return its text for a terminal.

    Args:
        forms: the formats of a table; of a figure's page, md alone.
        pictures: the formats of a figure's pictures; None = all.
        with_leads: whether to write where its entries come from, too.
    """
    named = _named(table)
    if with_leads:
        text = leads(named, results_dir).as_json()
        atomically(
            _folder(named, results_dir) / f"{named.file_name}.json",
            partial(Path.write_text, data=text, encoding="utf-8"),
        )
    if named.drawn:
        from runner.figures.draw import ENDINGS  # tables need no library for figures
        from runner.figures.write import write_figure

        endings = ENDINGS if pictures is None else pictures
        return write_figure(named, results_dir, endings, paged="md" in forms)
    return write_table(named, results_dir, forms)


def written(table: Suite, results_dir: Path) -> str:
    """The paths of the written files, as a pattern."""
    endings = ("svg", "pdf", "png", "csv", "md") if table.drawn else tuple(FORMATS)
    path = _folder(table, results_dir) / _named(table).file_name
    return f"{path}.{{{','.join((*endings, 'json'))}}}"


def _named(table: Suite) -> Suite:
    """The suite with a name of its files that no other settings have."""
    return replace(table, stem=table.stem or file_name((table.name, *table.settings)))


def _folder(table: Suite, results_dir: Path) -> Path:
    return results_dir / ("figures" if table.drawn else "tables")
