"""Draw the named figures, or those that have records, and write them to results/figures.

Usage: python scripts/figures.py [sketching_figure02]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.figures import draw_figures

    return draw_figures(sys.argv[1:])


if __name__ == "__main__":
    command(main)
