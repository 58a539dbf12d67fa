"""List the contents of the cache and its unused items; with remove=true, remove these.

Usage: python scripts/cache.py [TABLE ...] [results=DIR,DIR] [remove=true]
"""

import sys

from rich.console import Console

from runner.commands.cache import upkeep
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: upkeep(sys.argv[1:], Console(highlight=False))))
