"""Run the missing runs of tables, then print the tables.

Usage: python scripts/reproduce.py imc_table01@digits [models=resnet20] [seeds=0,1] [KEY=VALUE ...]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.reproduce import reproduce
    from runner.console import console

    return reproduce(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
