"""Draw figures from the records that are there, to results/figures; every figure when none is named. Usage: python scripts/figures.py [sketching_figure02]"""

import sys

from runner.errors import guarded
from runner.reproduce import draw_figures

if __name__ == "__main__":
    sys.exit(guarded(lambda: draw_figures(sys.argv[1:])))
