"""Publish the records and pages of tables and figures.

Usage: python scripts/publish.py sketching_table04@digits models=resnet20 [KEY=VALUE]
       python scripts/publish.py method=dense,imc model=lenet5 [KEY=VALUE]  (a sweep)
       python scripts/publish.py all  (write the pages of the whole index again)
"""

import sys

from rich.console import Console

from runner.commands.publish import publish
from runner.errors import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: publish(sys.argv[1:], Console(highlight=False))))
