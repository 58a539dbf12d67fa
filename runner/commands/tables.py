"""`make tables`: print and write tables from the available records."""

from runner.commands.arguments import load
from runner.commands.write import write
from runner.records.index import indexed
from runner.suites.spec import table_names


def print_tables(words: list[str]) -> int:
    """Write and print the named tables, or all if none is named, from the available records."""
    named = any("=" not in word for word in words)
    tables, place = load(words if named else [*table_names(), *words])
    with indexed(place.results_dir):
        for table in tables:
            print(write(table, place.results_dir))
    return 0
