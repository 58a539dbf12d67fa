"""Power of a paired comparison: the smallest difference that n seeds tell, and seeds needed."""

from scipy.special import nctdtr, stdtrit

from runner.stats.evidence import LEVEL

POWER = 0.8
MOST = 10_000  # seeds; more are not counted


def power(difference: float, n: int, level: float = LEVEL) -> float:
    """Probability that a two-sided t-test over n pairs decides, in the right direction.

    Args:
        difference: true mean difference in standard deviations of the pairs.
    """
    limit = -float(stdtrit(n - 1, level / 2))
    return 1 - float(nctdtr(n - 1, difference * n**0.5, limit))


def smallest_difference(n: int, level: float = LEVEL) -> float | None:
    """The difference that n seeds tell with a power of 80 %, in standard deviations of the pairs.

    None for fewer than two seeds.
    """
    if n < 2:
        return None
    from scipy.optimize import brentq  # here: its import takes as long as printing a table

    end = 1.0
    while power(end, n, level) < POWER:
        end *= 2
    return float(brentq(lambda difference: power(difference, n, level) - POWER, 0.0, end))


def seeds_needed(difference: float, level: float = LEVEL) -> int | None:
    """The number of seeds that tell a difference, in standard deviations, with a power of 80 %.

    None if more than MOST are needed.
    """
    low, high = 1, 2
    while power(abs(difference), high, level) < POWER:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power(abs(difference), middle, level) >= POWER else (middle, high)
        )
    return high if high <= MOST else None
