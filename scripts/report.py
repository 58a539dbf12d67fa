"""Collect all written tables and figures on one page, results/report.html.

Usage: python scripts/report.py [env.results_dir=DIR]
"""

import sys

from rich.console import Console

from runner.commands.report import report
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: report(sys.argv[1:], Console(highlight=False))))
