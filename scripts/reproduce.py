"""Run the missing runs of tables, then print the tables.

Usage: python scripts/reproduce.py imc_table01@digits [models=resnet20] [seeds=0,1] [KEY=VALUE ...]
"""

import sys

from rich.console import Console

from runner.commands.reproduce import reproduce
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: reproduce(sys.argv[1:], Console(highlight=False))))
