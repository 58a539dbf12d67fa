"""Print the named tables, or all if none is named, and write them to results/tables.

Only available records are used; nothing is run.
Usage: python scripts/tables.py imc_table01@digits [seeds=0,1,2]
"""

import sys

from runner.commands.tables import print_tables
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: print_tables(sys.argv[1:])))
