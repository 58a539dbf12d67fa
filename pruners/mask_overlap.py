"""How much of a mask is signal: its expected overlap with the mask of endless sampling."""

import math
from collections.abc import Callable

from pruners.base import STANDARD_ERROR, Finding, Masks, count_kept

OVERLAP = "mask_overlap"  # finding
DRAWS = 20  # standard error of the mean about 0.0005 at a density of 0.1 of 5,000 weights


def expected_overlap(chosen: Masks, draw: Callable[[], Masks]) -> dict[str, Finding]:
    """Share of the weights of `chosen` that the exact mask keeps, too: mean and standard error.

    Args:
        draw: a mask of scores from the posterior, at the same count; called `DRAWS` times.
    """
    shares = []
    for _ in range(DRAWS):
        exact = draw()
        both = count_kept({name: mask & exact[name] for name, mask in chosen.items()})
        shares.append(both / count_kept(chosen))
    mean = sum(shares) / DRAWS
    variance = sum((share - mean) ** 2 for share in shares) / (DRAWS - 1)
    return {OVERLAP: mean, OVERLAP + STANDARD_ERROR: math.sqrt(variance / DRAWS)}
