"""`make tables`: print and write tables from the available records."""

from runner.commands.available import show
from runner.suites.spec import table_names


def print_tables(words: list[str]) -> int:
    """Write and print the named tables, or those that have records; the exit code."""
    return show(table_names(), words, "make tables")
