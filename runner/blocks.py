"""Blocks of Markdown pages that a command writes; the text around them is written by hand.

A block begins with `<!-- make COMMAND: NAME -->` and ends with `<!-- make COMMAND: end -->`.
"""

import re
from collections.abc import Mapping

END = "end"  # the name in the closing marker


def marker(command: str, name: str) -> str:
    """The line that opens a command's block; with the name END, the one that closes it."""
    return f"<!-- make {command}: {name} -->"


def blocks(page: str, command: str) -> list[str]:
    """The names of a command's blocks in a page."""
    names = re.findall(f"^<!-- make {re.escape(command)}: (.+) -->$", page, re.MULTILINE)
    return [name for name in names if name != END]


def renewed(page: str, command: str, texts: Mapping[str, str]) -> str:
    """A page with new text in all blocks of a command.

    Args:
        texts: the text by the name of the block.

    Raises:
        ValueError: the page has no block of the command, one without an end, or one without text.
    """
    names = blocks(page, command)
    if not names:
        raise ValueError(f"the page lacks {marker(command, 'NAME')}")
    parts, rest = [], page
    for name in names:
        if name not in texts:
            raise ValueError(f"{marker(command, name)} has no text: {', '.join(texts)}")
        before, opening, rest = rest.partition(marker(command, name))
        inside, closing, rest = rest.partition(marker(command, END))
        if not closing or "<!-- make " in inside:
            raise ValueError(f"the page lacks {marker(command, END)} after {opening}")
        parts += [before, opening, "\n", texts[name].strip("\n"), "\n", closing]
    return "".join([*parts, rest])
