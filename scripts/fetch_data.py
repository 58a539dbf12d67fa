"""Download a data set if it is missing, and verify it.

Usage: python scripts/fetch_data.py cifar10 [--data-dir data]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.data import main as fetch

    return fetch(sys.argv[1:])


if __name__ == "__main__":
    command(main)
