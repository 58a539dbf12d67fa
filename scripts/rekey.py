"""Re-key records and caches of version 0.1.0.

Usage: python scripts/rekey.py [env.results_dir=DIR] [env.cache_dir=DIR]
"""

import sys

from rich.console import Console

from runner.commands.rekey import rekey
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: rekey(sys.argv[1:], Console(highlight=False))))
