"""Download a data set if it is missing, and verify it.

Usage: python scripts/fetch_data.py cifar10 [--data-dir data]
"""

import sys

from runner.commands.data import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
