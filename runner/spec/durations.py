"""Durations: epochs and points in training as YAML writes them, and how a shorter run scales them."""

import re

from pruners.base import PAPER_IMAGES


def scaled(duration: int, scale: float) -> int:
    """A paper's whole epochs on a shorter run: duration * scale, at least 1; zero stays zero."""
    return max(1, round(duration * scale)) if duration else 0


def scaled_point(duration: float, scale: float) -> float:
    """A point in a paper's training, in epochs, on a shorter run. Whole epochs stay whole; a point that falls between two is kept as a fraction."""
    return scaled(int(duration), scale) if float(duration).is_integer() else round(duration * scale, 6)


def epochs_of(key: str, value: int | str) -> int:
    """Epochs of a duration as YAML writes it: `10ep` or plain 10.

    Raises:
        ValueError: neither.
    """
    match = re.fullmatch(r"(\d+)(ep)?", str(value))
    if not match:
        raise ValueError(f"{key}={value!r} is not a number of epochs: write 10ep or 10")
    return int(match[1])


def point_of(key: str, value: int | str, batch_size: int) -> float:
    """Epochs of a point in training as YAML writes it: `10ep`, plain 10, or `2000it`.

    Iterations are taken as their share of the paper's run (decisions.md 9): its 50,000 images make ceil(50,000 / batch_size) iterations an epoch.

    Raises:
        ValueError: none of these.
    """
    match = re.fullmatch(r"(\d+)it", str(value))
    if match:
        return int(match[1]) / -(-PAPER_IMAGES // batch_size)
    try:
        return epochs_of(key, value)
    except ValueError:
        raise ValueError(f"{key}={value!r} is no point in training: write 10ep, 10 or 2000it") from None
