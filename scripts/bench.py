"""Measure speed as ratios to other implementations in the same run.

Usage: python scripts/bench.py [rounds=5] [threads=2] [only=NAME,NAME]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.bench.run import bench
    from runner.console import console

    return bench(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
