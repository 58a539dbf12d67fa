"""Print the named tables, or those that have records, and write them to results/tables.

Only available records are used; nothing is run.
Usage: python scripts/tables.py imc_table01@digits [seeds=0,1,2]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.tables import print_tables

    return print_tables(sys.argv[1:])


if __name__ == "__main__":
    command(main)
