"""Write tables and figures to files."""

from collections.abc import Collection
from pathlib import Path

from runner.suites.expand import Suite
from runner.tables.render import FORMATS, write_table


def write(
    table: Suite,
    results_dir: Path,
    forms: Collection[str] = tuple(FORMATS),
    pictures: Collection[str] | None = None,
) -> str:
    """Write a table or draw a figure; return its text for a terminal.

    Args:
        forms: the formats of a table.
        pictures: the formats of a figure's pictures; None = all.
    """
    if table.drawn:
        from runner.figures.draw import ENDINGS  # tables need no library for figures
        from runner.figures.write import write_figure

        return write_figure(table, results_dir, ENDINGS if pictures is None else pictures)
    return write_table(table, results_dir, forms)


def written(table: Suite, results_dir: Path) -> str:
    """The paths of the written files, as a pattern."""
    if table.drawn:
        return f"{results_dir / 'figures' / table.name}.{{svg,pdf,png,csv}}"
    return f"{results_dir / 'tables' / table.name}.{{txt,md,tex,csv,html}}"
