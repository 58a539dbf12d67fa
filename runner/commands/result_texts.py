"""Numbers of documents as text: means, and the range of printed numbers."""

import math
import re
from collections.abc import Iterable, Sequence

from runner.suites.numbers import mean_and_spread
from runner.tables.text import MISSING

NUMBER = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"


def mean_text(numbers: Sequence[float], digits: int, requested: int, spreads: bool = True) -> str:
    """The mean and the deviation; the number of runs if some are missing."""
    if not numbers:
        return MISSING
    mean, spread = mean_and_spread(list(numbers))
    text = f"{mean:,.{digits}f}"
    text += f" ± {spread:,.{digits}f}" if spreads and spread is not None else ""
    return text if len(numbers) == requested else f"{text} (n={len(numbers)} of {requested})"


def first(form: str, text: str) -> str:
    """What the group of a regular expression finds; MISSING for a text without a number."""
    found = re.search(form, text)
    return found.group(1) if found else MISSING


def span(texts: Iterable[str]) -> str:
    """The smallest and the largest of printed numbers; one if they are equal."""
    known = sorted((text for text in texts if text != MISSING), key=_size)
    if not known:
        return MISSING
    return known[0] if _size(known[0]) == _size(known[-1]) else f"{known[0]} to {known[-1]}"


def _size(text: str) -> float:
    number = float(first(f"({NUMBER})", text).replace(",", ""))
    return math.inf if text.startswith("more than") else number
