"""Draw the named figures, or all if none is named, from the available records to results/figures.

Usage: python scripts/figures.py [sketching_figure02]
"""

import sys

from runner.commands.figures import draw_figures
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: draw_figures(sys.argv[1:])))
