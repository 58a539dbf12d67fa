"""List the contents of the cache and its unused items; verify=true reads and checks everything.

Usage: python scripts/cache.py [TABLE ...] [results=DIR] [verify=true] [remove=true] [young=HOURS]

results=DIR[,DIR] names further directories of records. With remove=true, unused items are removed,
except those younger than HOURS, by default 1.
"""

import sys

from rich.console import Console

from runner.commands.cache import upkeep
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: upkeep(sys.argv[1:], Console(highlight=False))))
