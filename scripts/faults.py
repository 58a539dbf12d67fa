"""Try kills, damaged files, full disks, hostile files and invalid input, and print the table.

Usage: python scripts/faults.py [minutes=5] [seed=0] [only=kills,cache] [write=false]
"""

import sys

from rich.console import Console

from runner.errors import guarded
from runner.faults.run import faults

if __name__ == "__main__":
    sys.exit(guarded(lambda: faults(sys.argv[1:], Console(highlight=False))))
