"""Collect all written tables and figures on one page, results/report.html.

Usage: python scripts/report.py [env.results_dir=DIR]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.report import report
    from runner.console import console

    return report(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
