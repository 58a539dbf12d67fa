"""Write the blocks of README.md and RESULTS.md whose numbers come from published records.

Usage: python scripts/results.py
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.results import write_results
    from runner.console import console

    return write_results(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
