"""Write tables and figures to files."""

from pathlib import Path

from runner.figures.write import write_figure
from runner.suites.expand import Suite
from runner.tables.render import write_table


def write(table: Suite, results_dir: Path) -> str:
    """Write a table or draw a figure; return its text for a terminal."""
    return write_figure(table, results_dir) if table.drawn else write_table(table, results_dir)


def written(table: Suite, results_dir: Path) -> str:
    """The paths of the written files, as a pattern."""
    if table.drawn:
        return f"{results_dir / 'figures' / table.name}.{{svg,pdf,png,csv}}"
    return f"{results_dir / 'tables' / table.name}.{{txt,md,tex,csv,html}}"
