"""List the contents of the cache and its unused items; with remove=true, remove these.

Usage: python scripts/cache.py [TABLE ...] [results=DIR,DIR] [remove=true]
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
