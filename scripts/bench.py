"""Measure speed as ratios to other implementations in the same run.

Usage: python scripts/bench.py [rounds=5] [threads=2]
"""

import sys

from rich.console import Console

from runner.bench.run import bench
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: bench(sys.argv[1:], Console(highlight=False))))
