"""Write a finished run's network and masks for plain PyTorch, with a README.

Usage: python scripts/export.py RUN_ID [--format safetensors|torch|prune|pt2]
       [--at end|rewind|init] [--out DIR] [env.results_dir=DIR] [env.cache_dir=DIR]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.export import main as export

    return export(sys.argv[1:])


if __name__ == "__main__":
    command(main)
