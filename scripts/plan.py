"""Print the state and cost of the runs of tables, without running any.

Usage: python scripts/plan.py imc_table01@digits [models=resnet20] [seeds=0,1,2] [KEY=VALUE ...]
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.plan import show_plan
    from runner.console import console

    return show_plan(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
