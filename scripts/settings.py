"""Print our settings beside those of the papers: of the named tables, or a summary of all.

Each difference has its explanation, or is marked as unexplained. Nothing is run.
Usage: python scripts/settings.py imc_table01 [table.KEY=VALUE ...]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.settings import show_settings

    return show_settings(sys.argv[1:])


if __name__ == "__main__":
    command(main)
