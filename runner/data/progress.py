"""Progress lines on standard error for work that is done once for a data set."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from runner.streams import say

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0


def counted(items: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Yield the items as they are made, and print progress lines on standard error.

    Args:
        total: number of items.
        title: what is done, printed before the first item is made.
        unit: what the items are, in the plural.
    """
    say(f"{title} …")
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - started) / done * (total - done)
            say(f"{title}: {done}/{total} {unit}, {now - started:.0f} s, about {left:.0f} s left")
        yield item
