"""Print tables from the records that are there and write them to results/tables. Usage: python scripts/tables.py imc_table01@digits [seeds=0,1,2]"""

import sys

from runner.errors import guarded
from runner.reproduce import print_tables

if __name__ == "__main__":
    sys.exit(guarded(lambda: print_tables(sys.argv[1:])))
