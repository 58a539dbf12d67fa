"""Parse durations (epochs and points in training) and scale them for shorter runs."""

import re

from pruners.declared import PAPER_IMAGES


def scaled(duration: int, scale: float) -> int:
    """A number of a paper's epochs, scaled: round(duration * scale), at least 1.

    0 stays 0, and a negative number stays, for the component that refuses it.
    """
    return max(1, round(duration * scale)) if duration > 0 else duration


def scaled_point(duration: float, scale: float) -> float:
    """A point in a paper's training, in epochs, scaled.

    Whole epochs stay whole; a point between two epochs stays a fraction.
    """
    if float(duration).is_integer():
        return scaled(int(duration), scale)
    return round(duration * scale, 6)


def epochs_of(key: str, value: int | str) -> int:
    """The epochs of a duration in YAML: `10ep` or plain 10.

    Raises:
        ValueError: `value` has neither form.
    """
    match = re.fullmatch(r"(\d+)(ep)?", str(value))
    if not match:
        raise ValueError(f"{key}={value!r} is not a number of epochs: write 10ep or 10")
    return int(match[1])


def point_of(key: str, value: int | str, batch_size: int, images: int = PAPER_IMAGES) -> float:
    """The epochs of a point in training in YAML: `10ep`, plain 10, or `2000it`.

    Iterations count as their share of the paper's run (docs/decisions.md 9), in which `images` make
    ceil(images / batch_size) iterations an epoch.

    Args:
        images: training images of the papers' data set.

    Raises:
        ValueError: `value` has none of these forms.
    """
    match = re.fullmatch(r"(\d+)it", str(value))
    if match:
        return int(match[1]) / -(-images // batch_size)
    try:
        return epochs_of(key, value)
    except ValueError:
        raise ValueError(
            f"{key}={value!r} is not a point in training: write 10ep, 10 or 2000it"
        ) from None
