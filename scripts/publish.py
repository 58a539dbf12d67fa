"""Publish the records and pages of tables and figures.

Usage: python scripts/publish.py sketching_table04@digits models=resnet20 [KEY=VALUE]
       python scripts/publish.py method=dense,imc model=lenet5 [KEY=VALUE]  (a sweep)
       python scripts/publish.py all  (write the pages of the whole index again)
"""

import sys

from runner.entry import command


def main() -> int:
    """Run the command; its exit code. Imports take seconds, and Ctrl-C may interrupt them."""
    from runner.commands.publish import publish
    from runner.console import console

    return publish(sys.argv[1:], console())


if __name__ == "__main__":
    command(main)
