"""Try kills, damaged files, full disks, hostile files and invalid input, and print the table.

Usage: python scripts/faults.py [minutes=5] [seed=0] [workers=2]
       [only=kills,cache] [write=false] [fresh=true]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.console import console
    from runner.faults.run import faults

    return faults(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
