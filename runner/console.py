"""The one place that makes consoles.

Text is printed as it is, because labels and paths may contain rich's markup.
"""

import sys

from rich.console import Console


def console() -> Console:
    """A console on standard output that prints text without interpreting markup."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
