"""Print tables from the records that are there and write them to results/tables. Usage: python scripts/tables.py imc_table01@digits [seeds=0,1,2]"""

import sys

from runner.commands.tables import print_tables
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: print_tables(sys.argv[1:])))
