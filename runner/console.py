"""The one place that makes consoles.

Text is printed as it is, because labels and paths may contain rich's markup; only control
characters are replaced.
"""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from runner.streams import visible


class VisibleConsole(Console):
    """A console that shows control characters in text instead of passing them to the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text for a string that is printed or stands in a table."""
        return super().render_str(visible(text), **options)


def console() -> Console:
    """A console on standard output that prints text without interpreting markup."""
    return VisibleConsole(file=sys.stdout, highlight=False, markup=False, emoji=False)
