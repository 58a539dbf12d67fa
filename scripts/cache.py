"""List the contents of the cache and its unused items; verify=true reads and checks everything.

Usage: python scripts/cache.py [TABLE ...] [results=DIR] [verify=true] [remove=true] [young=HOURS]

results=DIR[,DIR] names further directories of records. With remove=true, unused items are removed,
except those younger than HOURS, by default 1.
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.cache import upkeep
    from runner.console import console

    return upkeep(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
