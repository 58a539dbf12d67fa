"""Re-key records and caches of version 0.1.0.

Usage: python scripts/rekey.py [env.results_dir=DIR] [env.cache_dir=DIR]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.rekey import rekey
    from runner.console import console

    return rekey(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
