"""Print the state and cost of the runs of tables, without running any.

Usage: python scripts/plan.py imc_table01@digits [models=resnet20] [seeds=0,1,2] [KEY=VALUE ...]
"""

import sys

from rich.console import Console

from runner.commands.plan import show_plan
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: show_plan(sys.argv[1:], Console(highlight=False))))
