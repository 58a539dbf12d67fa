"""Draw figures from the records that are there, to results/figures; every figure when none is named. Usage: python scripts/figures.py [sketching_figure02]"""

import sys

from runner.commands.figures import draw_figures
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: draw_figures(sys.argv[1:])))
