"""Take over the records of another machine; nothing is overwritten.

Usage: python scripts/import.py DIR|FILE ... [env.results_dir=DIR]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.import_ import main as import_records

    return import_records(sys.argv[1:])


if __name__ == "__main__":
    command(main)
